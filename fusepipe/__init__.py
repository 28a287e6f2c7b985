"""fusepipe: real-time infrared + visible video fusion.

    import fusepipe
    fused = fusepipe.load_fuser("stream").fuse(ir, vis)          # two HxW uint8 luma arrays
    report = fusepipe.Pipeline(fusepipe.load_rig("rigs.yaml", "demo")).run()

The names below are imported at first use, so that ``import fusepipe`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fusepipe.rig.run import Pipeline, load_fuser, load_rig

__all__ = ["Pipeline", "__version__", "load_fuser", "load_rig"]


def __getattr__(name: str) -> Any:
    if name in ("Pipeline", "load_fuser", "load_rig"):
        from fusepipe.rig import run as app

        return getattr(app, name)
    raise AttributeError(f"module 'fusepipe' has no attribute {name!r}")
