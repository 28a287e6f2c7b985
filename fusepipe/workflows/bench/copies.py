"""What one more pair costs in memory: what each stage allocates, and which planes it writes and does not pass on.

Pairs go through the stages one by one, as in a run whose buffers have all been made. Allocations are those of Python
and NumPy; FFmpeg and the engine have buffers of their own, which they recycle.
"""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.workflows.bench.clips import FPS, Clips
from fusepipe.workflows.bench.stages import registration_for

WARM_UP, MEASURED = 5, 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageMemory:
    """One stage in steady state: the most that it allocates for a pair, and how many planes of its result it wrote.

    ``written`` counts planes that are not those of its input, nor of FFmpeg's decoded frame; ``None`` for the encoder,
    which fills FFmpeg's frame, each plane once.
    """

    stage: str
    allocated_kib: float
    planes: int
    written: int | None


class _Counter:
    def __init__(self) -> None:
        self.found: dict[str, StageMemory] = {}

    def __call__(self, work: Callable[[], T]) -> tuple[T, float]:
        """The result, and the KiB allocated at most beyond what was there before."""
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        done = work()
        return done, (tracemalloc.get_traced_memory()[1] - before) / 1024

    def book(self, stage: str, kib: float, planes: int, written: int | None) -> None:
        """Keeps the most of all pairs."""
        last = self.found.get(stage)
        if last is not None:
            kib = max(kib, last.allocated_kib)
            written = None if written is None else max(written, last.written or 0)
        self.found[stage] = StageMemory(stage, round(kib, 1), planes, written)


def count_copies(clips: Clips, fuser: Fuser, encoding: VideoOptions, output: Path) -> list[StageMemory]:
    """Decoding, registration (with tone mapping), fusion and encoding of a few pairs, in this order.

    The clips need ``WARM_UP + 1`` pairs at least. Stops a trace of ``tracemalloc``.
    """
    registration, tone_map = registration_for(clips, fuser), ToneMap(None, lambda message: None)
    step = FusionStep(fuser)
    sources = [VideoFileSource(clips.infrared, Band.INFRARED), VideoFileSource(clips.visible, Band.VISIBLE)]
    sink = VideoSink(output, encoding, fps=FPS)
    counter = _Counter()
    tracemalloc.start(1)
    try:
        for source in sources:
            source.open()
        streams = [source.frames(threading.Event()) for source in sources]
        for index in range(min(clips.pairs, WARM_UP + MEASURED)):
            if index == WARM_UP:
                counter = _Counter()
            (infrared, visible), kib = counter(lambda: [next(stream) for stream in streams])
            if not (isinstance(infrared, Frame) and isinstance(visible, Frame)):
                continue  # damaged, which rendered clips are not
            pair = FramePair(visible.index, PairState.FUSED, Band.VISIBLE, infrared, visible, 0)
            seen = [*infrared.planes, *visible.planes]
            counter.book("decode", kib, len(seen), sum(not _is_of_ffmpeg(plane) for plane in seen))
            _fuse_and_encode(counter, pair, lambda one: tone_map(registration(one)), step, sink)
            del infrared, visible, pair, seen
    finally:
        tracemalloc.stop()
        for source in sources:
            source.close()
        sink.close()
        step.close()
    return list(counter.found.values())


def _fuse_and_encode(
    counter: _Counter,
    pair: FramePair,
    register: Callable[[FramePair], FramePair],
    step: FusionStep,
    sink: VideoSink,
) -> None:
    assert pair.infrared is not None and pair.visible is not None
    seen = [*pair.infrared.planes, *pair.visible.planes]
    registered, kib = counter(lambda: register(pair))
    assert registered.luma is not None and registered.visible is not None
    made = [registered.luma, *registered.visible.planes]
    counter.book("register", kib, len(made), _written(made, seen))

    def fused() -> FusedFrame:
        step.submit(registered)
        return step.finish()

    frame, kib = counter(fused)
    counter.book("fuse", kib, len(frame.planes), _written(frame.planes, [registered.luma, *seen]))
    _, kib = counter(lambda: sink.write(frame))
    counter.book("encode", kib, len(frame.planes), None)


def _written(made: Sequence[Plane], came: Iterable[Plane]) -> int:
    """Planes that share no memory with those that came."""
    known = [plane.pixels for plane in came]
    return sum(not any(np.may_share_memory(plane.pixels, one) for one in known) for plane in made)


def _is_of_ffmpeg(plane: Plane) -> bool:
    """Whether a plane is a view of a decoded frame's memory."""
    owner: object = plane.pixels
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return isinstance(owner, memoryview)
