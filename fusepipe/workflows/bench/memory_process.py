"""A process of its own whose memory ``fusepipe bench`` measures: a whole run, or the parts of one after another.

``python -m fusepipe.workflows.bench.memory_process ASKED.json RESULT.json``. Memory that one part gave back would
otherwise be counted as free for the next, and the process that rendered the clips has held more than a run.
"""

from __future__ import annotations

import json
import runpy
import sys
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusepipe.core.frames import Frame, FusedFrame
    from fusepipe.pipeline.sinks.files.video import VideoSink
    from fusepipe.pipeline.sources.base import Source

FRAMES = 24
"""Decoded, and encoded: until decoders and encoders have all the frames that they keep."""
PROC_SELF = Path("/proc/self")


def held_kib(proc: Path = PROC_SELF) -> tuple[int, int]:
    """(anonymous, mapped from files) resident memory, exactly; zeros where the system does not report it."""
    try:
        lines = (proc / "smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        return sizes["Anonymous"], sizes["Rss"] - sizes["Anonymous"]
    except (OSError, ValueError, KeyError, IndexError):
        return 0, 0


class Ledger:
    """What each part added to the resident memory, in KiB."""

    def __init__(self) -> None:
        self._last = (0, 0)
        self.parts: list[dict[str, Any]] = []

    def add(self, name: str) -> None:
        """Books what came since the part before."""
        now = held_kib()
        grown = [kib - before for kib, before in zip(now, self._last, strict=True)]
        self.parts.append({"name": name, "anonymous_kib": grown[0], "file_kib": grown[1]})
        self._last = now


def measure_parts(asked: dict[str, Any]) -> dict[str, Any]:
    """Each part of a run in turn, in one thread; all of them are kept until the end."""
    ledger = Ledger()
    ledger.add("python")
    # imported here: this is what is measured
    from fusepipe.core.frames import Band, FramePair, PairState
    from fusepipe.core.models import NETWORKS
    from fusepipe.pipeline.stages.fusion import FusionStep
    from fusepipe.pipeline.stages.registration import Registration
    from fusepipe.pipeline.stages.tonemap import ToneMap
    from fusepipe.rig.factories.fusers import load_fuser
    from fusepipe.rig.factories.registration import make_aligner

    for name in ("rig.api", "pipeline.sources.files.video_file", "pipeline.sinks.files.video"):
        import_module(f"fusepipe.{name}")
    if asked["model"] in NETWORKS and asked["backend"] in ("auto", "openvino"):
        from fusepipe.engines.backends.openvino.network import shared_core

        shared_core().get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    ledger.add("libraries")
    sources, infrared, visible = _decoded(asked)
    ledger.add("decoders")
    fuser = load_fuser(asked["model"], asked["backend"], asked["precision"])
    ledger.add("model")
    registration = Registration(
        make_aligner("synthetic://street").alignment,
        (asked["width"], asked["height"]),
        apply=not fuser.info.accepts_warp,
        max_visible_levels=fuser.info.max_visible_levels,
    )
    tone_map, step = ToneMap(None, lambda message: None), FusionStep(fuser)
    pair = tone_map(registration(FramePair(0, PairState.FUSED, Band.VISIBLE, infrared, visible, 0)))
    ledger.add("registration")
    step.submit(pair)
    fused = step.finish()
    ledger.add("engine")
    while not step.full:
        step.submit(pair)
    while step.pending:
        fused = step.finish()
    ledger.add("further requests")
    sink = _encoded(fused, Path(asked["output"]), asked["preset"])
    ledger.add("encoder")
    sink.close()
    step.close()
    fuser.close()
    for source in sources:
        source.close()
    return {"parts": ledger.parts}


def _decoded(asked: dict[str, Any]) -> tuple[list[Source], Frame, Frame]:
    """Both sources, still open, and their frames number ``FRAMES``."""
    from fusepipe.core.frames import Band, Frame
    from fusepipe.pipeline.sources.files.video_file import VideoFileSource

    sources: list[Source] = [VideoFileSource(Path(asked[str(band)]), band) for band in (Band.INFRARED, Band.VISIBLE)]
    for source in sources:
        source.open()
    streams = [source.frames(threading.Event()) for source in sources]
    for _ in range(FRAMES):  # in turn, as a run reads them
        infrared, visible = (next(stream) for stream in streams)
    assert isinstance(infrared, Frame) and isinstance(visible, Frame)  # what this process' parent has rendered
    return sources, infrared, visible


def _encoded(fused: FusedFrame, output: Path, preset: str) -> VideoSink:
    """An open video of ``FRAMES`` times this frame."""
    from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink

    sink = VideoSink(output, VideoOptions(preset=preset), fps=25, overwrite=True)
    for index in range(FRAMES):
        sink.write(replace(fused, capture_ns=fused.capture_ns + index * 40_000_000))
    return sink


def measure_run(asked: dict[str, Any]) -> dict[str, Any]:
    """The largest resident memory of ``fusepipe run``."""
    from fusepipe.workflows.bench.against import peak_mib

    sys.argv = ["fusepipe", "run", "--rig", asked["rig"], "--quiet", "--overwrite"]
    try:
        runpy.run_module("fusepipe", run_name="__main__")  # the command line, which stands above this module
    except SystemExit as ended:
        if ended.code:
            raise
    return {"peak_mib": peak_mib()}


def answer_measurement(arguments: list[str]) -> None:
    """Measures what the first file asks for and writes the second."""
    asked = json.loads(Path(arguments[0]).read_text("utf-8"))
    found = measure_run(asked) if asked["measure"] == "run" else measure_parts(asked)
    Path(arguments[1]).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    answer_measurement(sys.argv[1:])
