"""fusepipe: real-time infrared + visible video fusion.

    import fusepipe
    fused = fusepipe.load_fuser("stream").fuse(ir, vis)          # two images, NumPy or PyTorch
    report = fusepipe.Pipeline("rigs.yaml", "demo").run()
    for frame in fusepipe.stream("ir.mkv", "vis.mkv"):
        print(frame.bgr.shape, frame.state, frame.capture_ns)

The names below are imported on first use, so that ``import fusepipe`` stays light. This is for users' programs: within
fusepipe only ``workflows.doctor`` imports it, to check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepipe.core.version import __version__

if TYPE_CHECKING:
    from fusepipe.core.array_images import frame_of_array
    from fusepipe.core.errors import EngineError, FusepipeError, SinkError, SourceError, UsageError
    from fusepipe.core.frames import Frame, FusedFrame
    from fusepipe.core.fuser import Fuser
    from fusepipe.pipeline.sinks.base import Sink, SinkReport
    from fusepipe.pipeline.sources.base import Overflow, Source, SourceInfo
    from fusepipe.rig.api import Pipeline, load_rig
    from fusepipe.rig.factories.fusers import load_fuser
    from fusepipe.rig.frame_stream import stream
    from fusepipe.rig.report.run_report import RunReport

_LAZY = {
    "EngineError": "fusepipe.core.errors",
    "Frame": "fusepipe.core.frames",
    "FusedFrame": "fusepipe.core.frames",
    "Fuser": "fusepipe.core.fuser",
    "FusepipeError": "fusepipe.core.errors",
    "Overflow": "fusepipe.pipeline.sources.base",
    "Pipeline": "fusepipe.rig.api",
    "RunReport": "fusepipe.rig.report.run_report",
    "Sink": "fusepipe.pipeline.sinks.base",
    "SinkReport": "fusepipe.pipeline.sinks.base",
    "SinkError": "fusepipe.core.errors",
    "Source": "fusepipe.pipeline.sources.base",
    "SourceError": "fusepipe.core.errors",
    "SourceInfo": "fusepipe.pipeline.sources.base",
    "UsageError": "fusepipe.core.errors",
    "frame_of_array": "fusepipe.core.array_images",
    "load_fuser": "fusepipe.rig.factories.fusers",
    "load_rig": "fusepipe.rig.api",
    "stream": "fusepipe.rig.frame_stream",
}

__all__ = [
    "EngineError",
    "Frame",
    "FusedFrame",
    "FusepipeError",
    "Fuser",
    "Overflow",
    "Pipeline",
    "RunReport",
    "Sink",
    "SinkError",
    "SinkReport",
    "Source",
    "SourceError",
    "SourceInfo",
    "UsageError",
    "__version__",
    "frame_of_array",
    "load_fuser",
    "load_rig",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fusepipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
