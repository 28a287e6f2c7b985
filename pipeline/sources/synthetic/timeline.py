"""Exposure times and timestamps of a synthetic camera. Pure, with random access.

The camera ticks ``fps`` times a second. Each tick has a true time, which the camera's clock reads with skew, offset and
jitter. A tick may be dropped, or repeat the previous image (a repeat or a flat-field freeze). Random numbers come from
a counter-based generator keyed by seed, band and block of ticks, so they do not depend on what was read before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.options import SyntheticOptions

BLOCK = 1024
"""Ticks whose random numbers are generated together."""

ORDER_LIMIT = 0.45
"""Jitter is clipped at this share of the frame interval, so that timestamps stay in order."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One delivered frame: ground truth and timestamp.

    ``true_ns`` and ``image_ns`` are the times of this tick and of the tick whose image it shows, since the start of
    the camera; ``reading_ns`` is the camera's reading of ``true_ns``. ``repeated``: the image is the previous one.
    ``frozen``: because of a flat-field correction.
    """

    index: int
    tick: int
    true_ns: int
    reading_ns: int
    image_tick: int
    image_ns: int
    repeated: bool
    frozen: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """The delivered ticks of one block; ``image`` is the tick whose image each of them shows."""

    ticks: NDArray[np.int64]
    image: NDArray[np.int64]
    frozen: NDArray[np.bool_]
    jitter_ns: NDArray[np.float64]


def generator(seed: int, band: Band, stream: int, block: int) -> np.random.Generator:
    """The random generator of one block; deterministic in its arguments."""
    lane = (int(band is Band.INFRARED) << 56) | (stream << 48) | block
    return np.random.Generator(np.random.Philox(key=np.array([seed, lane], np.uint64)))


class Timeline:
    """The frames of one camera, in order or by index; keeps two integers per block for seeking."""

    def __init__(self, options: SyntheticOptions) -> None:
        self._options = options
        # number of delivered frames before each block, and the last tick with a new image before it
        self._frames_before = [0]
        self._fresh_before = [-1]

    def tick_ns(self, tick: int) -> int:
        """The true time of a tick in nanoseconds since the start, exact to rounding."""
        fps = self._options.fps
        return self._options.phase_ns + round(tick * 1_000_000_000 * fps.denominator / fps.numerator)

    def reading_ns(self, true_ns: int, jitter_ns: float = 0.0) -> int:
        """The reading of the camera's clock at a true time."""
        drift_ns = round(true_ns * self._options.skew_ppm * 1e-6)
        return true_ns + drift_ns + self._options.offset_ns + round(jitter_ns)

    def moments(self) -> Iterator[Moment]:
        """All delivered frames in order."""
        for number in count():
            if number * BLOCK >= self._options.ticks:
                return
            block = self._block(number)
            for position in range(len(block.ticks)):
                yield self._moment(number, block, position)

    def moment(self, index: int) -> Moment:
        """The delivered frame ``index``; raises :class:`IndexError` past the last one."""
        if index < 0:
            raise IndexError(f"{index = } is negative")
        while self._frames_before[-1] <= index:
            number = len(self._frames_before) - 1
            if number * BLOCK >= self._options.ticks:
                raise IndexError(f"the camera delivers {self._frames_before[-1]} frames; got {index = }")
            self._block(number)
        number = bisect_right(self._frames_before, index) - 1
        return self._moment(number, self._block(number), index - self._frames_before[number])

    def _moment(self, number: int, block: _Block, position: int) -> Moment:
        tick = int(block.ticks[position])
        image = int(block.image[position])
        true_ns = self.tick_ns(tick)
        return Moment(
            index=self._frames_before[number] + position,
            tick=tick,
            true_ns=true_ns,
            reading_ns=self.reading_ns(true_ns, float(block.jitter_ns[position])),
            image_tick=image,
            image_ns=self.tick_ns(image),
            repeated=image != tick,
            frozen=bool(block.frozen[position]),
        )

    def _block(self, number: int) -> _Block:
        """The delivered ticks of a block whose predecessors are known; stores what its successor needs."""
        options = self._options
        ticks = np.arange(number * BLOCK, min((number + 1) * BLOCK, options.ticks), dtype=np.int64)
        random = generator(options.seed, options.band, 0, number)
        jitter = random.standard_normal(BLOCK)[: len(ticks)] * options.jitter_ns
        limit_ns = ORDER_LIMIT * options.interval_ns
        np.clip(jitter, -limit_ns, limit_ns, out=jitter)
        dropped = random.random(BLOCK)[: len(ticks)] < options.drop
        repeated = random.random(BLOCK)[: len(ticks)] < options.repeat
        frozen = self._frozen(ticks)
        if number == 0:  # the first frame is always delivered, with a new image
            dropped[0] = repeated[0] = frozen[0] = False
        fresh = np.where(dropped | repeated | frozen, -1, ticks)
        image = np.maximum(np.maximum.accumulate(fresh), self._fresh_before[number])
        if number == len(self._frames_before) - 1:
            self._frames_before.append(self._frames_before[number] + int((~dropped).sum()))
            self._fresh_before.append(int(image[-1]))
        kept = ~dropped
        return _Block(ticks[kept], image[kept], frozen[kept], jitter[kept])

    def _frozen(self, ticks: NDArray[np.int64]) -> NDArray[np.bool_]:
        ffc = self._options.ffc
        if ffc is None:
            return np.zeros(len(ticks), np.bool_)
        # float64 is exact to a microsecond over a thousand years at these magnitudes
        since_ns = ticks * self._options.interval_ns
        # half a nanosecond of tolerance for rounding: 125 ticks of 40 ms are 5 s
        return np.asarray(
            (since_ns + 0.5 >= ffc.every_ns) & ((since_ns + 0.5) % ffc.every_ns < ffc.length_ns), np.bool_
        )
