"""CPU time per pair of each pipeline stage alone, the basis of the arithmetic limit.

CPU time, not wall time: it includes all threads that a library starts and hardly depends on other load. The frames
are in memory, so a stage is measured without the one before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sources.base import Source
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.rig.factories.registration import make_aligner
from fusepipe.workflows.bench.clips import FPS, Clips

KEPT_BYTES = 256 << 20  # of frames kept in memory
MAX_KEPT, MIN_KEPT = 100, 8


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage alone: CPU time (all threads) and wall time per pair, in ms."""

    name: str
    cpu_ms: float
    wall_ms: float


class _Clock:
    """Process CPU time and wall time since construction."""

    def __init__(self) -> None:
        self._cpu_ns, self._wall_ns = time.process_time_ns(), time.perf_counter_ns()

    def cost(self, name: str, pairs: int) -> StageCost:
        cpu_ns, wall_ns = time.process_time_ns() - self._cpu_ns, time.perf_counter_ns() - self._wall_ns
        return StageCost(name, round(cpu_ns / pairs / 1e6, 4), round(wall_ns / pairs / 1e6, 4))


def measure_stages(clips: Clips, fuser: Fuser, encoding: VideoOptions, output: Path) -> list[StageCost]:
    """Decoding, pairing, registration, tone mapping, fusion and encoding, in this order.

    Work done once per run (building the warp, compiling, opening the encoder) is excluded.
    """
    kept = pairs_in_memory(clips)
    infrared, decode_infrared = _decoded(VideoFileSource(clips.infrared, Band.INFRARED), kept)
    visible, decode_visible = _decoded(VideoFileSource(clips.visible, Band.VISIBLE), kept)
    costs = [decode_infrared, decode_visible]

    clock = _Clock()
    pairs = _paired(infrared, visible)
    costs.append(clock.cost("pair", len(pairs)))

    pairs = _mapped("register", registration_for(clips, fuser), pairs, costs)
    pairs = _mapped("tone map", ToneMap(None, lambda message: None), pairs, costs)

    fused = _fused(fuser, pairs, costs)
    costs.append(_encoded(fused, encoding, output))
    return costs


def registration_for(clips: Clips, fuser: Fuser) -> Registration:
    """The registration of the clips, as the rig of ``bench`` has it."""
    return Registration(
        make_aligner("synthetic://street").alignment,
        clips.visible_size,
        apply=not fuser.info.accepts_warp,
        max_visible_levels=fuser.info.max_visible_levels,
    )


def pairs_in_memory(clips: Clips) -> int:
    """The number of pairs to measure a stage with, so that they fit into memory."""
    width, height = clips.visible_size
    each = 4 * width * height  # visible planes, registered and fused luma, infrared
    return min(clips.pairs, max(MIN_KEPT, min(MAX_KEPT, KEPT_BYTES // each)))


def _decoded(source: Source, count: int) -> tuple[list[Frame], StageCost]:
    """The first ``count`` frames; the decoder's threads may be ahead by the few they hold."""
    source.open()
    frames: list[Frame] = []
    stream = source.frames(threading.Event())
    clock = _Clock()
    try:
        for item in stream:
            if isinstance(item, Frame):
                frames.append(item)
            if len(frames) == count:
                break
        return frames, clock.cost(f"decode {source.band}", max(1, len(frames)))
    finally:
        source.close()


def _paired(infrared: Sequence[Frame], visible: Sequence[Frame]) -> list[FramePair]:
    pairer = TimePairer(Band.VISIBLE)
    pairs: list[FramePair] = []
    for one, other in zip(infrared, visible, strict=True):
        pairs += pairer.push(one)
        pairs += pairer.push(other)
    for band in Band:
        pairs += pairer.end(band)
    return pairs


def _mapped(
    name: str, stage: Callable[[FramePair], FramePair], pairs: Sequence[FramePair], costs: list[StageCost]
) -> list[FramePair]:
    stage(pairs[0])  # warm-up: builds its tables and maps
    clock = _Clock()
    done = [stage(pair) for pair in pairs]
    costs.append(clock.cost(name, len(pairs)))
    return done


def _fused(fuser: Fuser, pairs: Sequence[FramePair], costs: list[StageCost]) -> list[FusedFrame]:
    """Like the fusion stage: as many requests in flight as the engine accepts."""
    step = FusionStep(fuser)
    step.submit(pairs[0])
    step.finish()  # compiled for the size at which pairs arrive
    fused: list[FusedFrame] = []
    clock = _Clock()
    for pair in pairs:
        if step.full:
            fused.append(step.finish())
        step.submit(pair)
    while step.pending:
        fused.append(step.finish())
    costs.append(clock.cost("fuse", len(pairs)))
    return fused


def _encoded(frames: Sequence[FusedFrame], encoding: VideoOptions, output: Path) -> StageCost:
    sink = VideoSink(output, encoding, fps=FPS)
    try:
        sink.write(frames[0])  # opens the file and the encoder
        clock = _Clock()
        for frame in frames[1:]:
            sink.write(frame)
    finally:
        sink.close()
    return clock.cost("encode", max(1, len(frames) - 1))
