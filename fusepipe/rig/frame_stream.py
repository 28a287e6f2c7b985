"""Fused frames as a generator: ``for frame in fusepipe.stream(ir, vis)``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusepipe.config.schema import Rig, SyncConfig
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.suggest import did_you_mean
from fusepipe.pipeline.sinks.program.handover import HandoverSink
from fusepipe.pipeline.sources.base import Source
from fusepipe.rig.api import Pipeline
from fusepipe.rig.from_options import rig_from_options

TAKE_S = 0.5  # how often the generator looks whether the run has ended without closing its sink

_SYNC_KEYS = frozenset(str(field.validation_alias or name) for name, field in SyncConfig.model_fields.items())

Input = str | Path | Source
"""A file, a folder, a URL, or a source of one's own."""


def stream(
    infrared: Input | Rig,
    visible: Input | None = None,
    *,
    name: str | None = None,
    model: str = "stream",
    calibration: str | Path | None = None,
    infrared_range: tuple[float, float] | None = None,
    visible_range: tuple[float, float] | None = None,
    max_pairs: int | None = None,
    duration_s: float | None = None,
    **sync: str,
) -> Iterator[FusedFrame]:
    """The fused frames of two inputs, or of a rig: ``stream("rigs.yaml", name="demo")``, ``stream(rig)``.

    ``infrared`` and ``visible`` are files, folders, URLs or own sources. Those take a ``model``, a ``calibration``, the
    counts of black and white as ``infrared_range`` and ``visible_range``, and keys of ``sync``, such as
    ``tolerance="20ms"`` or ``offset``; a rig has its own. The sinks of a rig get nothing.

    The threads start with the first frame. They end when the loop is left, also by ``break`` or an exception; a
    generator that is kept ends with its ``close()``. Recordings wait for the program; of live cameras it gets the
    newest frame. Raises :class:`UsageError` at once for arguments that do not go together, and what opening or the run
    raises from the loop.
    """
    sink = HandoverSink()
    if visible is None:
        if not isinstance(infrared, Rig | str | Path):
            raise UsageError("give infrared and visible, or a rig")
        if not isinstance(infrared, Rig) and Path(infrared).suffix.lower() not in (".yaml", ".yml"):
            raise UsageError(f"{infrared}: is no rigs.yaml, and visible is missing: give both inputs")
        if model != "stream" or calibration is not None or infrared_range or visible_range or sync:
            raise UsageError("a rig has its own settings; change them in the rig, or give two inputs")
        return _frames(Pipeline(infrared, name, sinks=[sink], max_pairs=max_pairs, duration_s=duration_s), sink)
    if isinstance(infrared, Rig) or name is not None:
        raise UsageError("a rig has its own inputs: give a rig, or infrared and visible")
    if unknown := sync.keys() - _SYNC_KEYS:
        raise UsageError(f"stream has no argument {min(unknown)!r} ({did_you_mean(min(unknown), _SYNC_KEYS)})")
    body: dict[str, Any] = {
        "name": "stream",
        "from_options": False,  # messages name keys, not options of a command
        "infrared": {"url": _url("infrared", infrared), "range": infrared_range},
        "visible": {"url": _url("visible", visible), "range": visible_range},
        "registration": {"calibration": None if calibration is None else str(calibration)},
        "fusion": {"model": model},
        "sync": dict(sync),
    }
    pipeline = Pipeline(
        rig_from_options(body),
        sinks=[sink],
        sources=(_own(infrared), _own(visible)),
        max_pairs=max_pairs,
        duration_s=duration_s,
    )
    return _frames(pipeline, sink)


def _own(one: Input) -> Source | None:
    return None if isinstance(one, str | Path) else one


def _url(band: str, one: Input) -> str:
    if isinstance(one, str | Path):
        return str(one)
    if not hasattr(one, "frames"):
        raise UsageError(f"{band} is a {type(one).__qualname__}: give a path, a URL or a Source")
    return "synthetic://street"  # replaced by the source itself


def _frames(pipeline: Pipeline, sink: HandoverSink) -> Iterator[FusedFrame]:
    pipeline.open()
    sink.newest = pipeline.live
    pipeline.start()
    over = False
    try:
        while not over:
            finished = pipeline.finished  # before taking: what was written until then is taken
            frame = sink.take(TAKE_S)
            if frame is not None:
                yield frame
            else:
                over = finished or sink.ended
    finally:
        sink.leave()
        if not over:
            pipeline.interrupt()
            pipeline.interrupt()  # nobody wants what is in flight
        pipeline.wait()
    pipeline.raise_error()
