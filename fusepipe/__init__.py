"""fusepipe: real-time infrared + visible video fusion.

    import fusepipe
    fused = fusepipe.load_fuser("stream").fuse(ir, vis)          # two HxW uint8 luma arrays
    report = fusepipe.Pipeline(fusepipe.load_rig("rigs.yaml", "demo")).run()

The names below are imported on first use, so that ``import fusepipe`` stays light. This is for users' programs: within
fusepipe only ``workflows.doctor`` imports it, to check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepipe.core.version import __version__

if TYPE_CHECKING:
    from fusepipe.rig.api import Pipeline, load_rig
    from fusepipe.rig.factories.fusers import load_fuser

_LAZY = {
    "Pipeline": "fusepipe.rig.api",
    "load_rig": "fusepipe.rig.api",
    "load_fuser": "fusepipe.rig.factories.fusers",
}

__all__ = ["Pipeline", "__version__", "load_fuser", "load_rig"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fusepipe' has no attribute {name!r}")
