"""Drift of the calibration: measures the offset of the registered infrared image, classifies and corrects it.

Pure: :class:`DriftMeter` takes images, :class:`DriftMonitor` takes its measurements with their times; threads and
clocks are elsewhere. All lengths are fractions of the image width, so that they hold at any resolution.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import gradient_field, shrunk
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.local_matches import Matches, fit, match_blocks, pooled
from fusepipe.core.frames import Luma8, Size

WIDTH_PX = 320
BLOCK_PX, STEP_PX, RADIUS_PX = 48, 32, 8
WINDOW = 4  # samples whose surfaces are averaged
MIN_NEAR = 0.3  # fraction of the blocks that have to agree on the displacement for a valid measurement
MIN_BLOCKS = 10

SUSPECT = 0.0020  # of the width: 1.3 pixels of 640
LOST = 0.0100
CALM = 0.0012
ENTER, LEAVE = 2, 4  # consecutive measurements before the state gets worse, and before it gets better
MAX_EVENTS = 100
MAX_CORRECTION = 0.025  # of the width, all corrections together
STEP = 0.0015  # of the width, of one correction: the image glides instead of jumping
WORTH = 0.0006  # smaller offsets are noise


class DriftState(StrEnum):
    """``OK``: as calibrated. ``SUSPECT``: visibly misaligned. ``LOST``: contours are visibly doubled."""

    OK = "ok"
    SUSPECT = "suspect"
    LOST = "lost"


_SEVERITY = {state: number for number, state in enumerate(DriftState)}


@dataclass(frozen=True, slots=True)
class Measurement:
    """``matrix`` 3x3, visible pixel to visible pixel of an image of ``size``: moves the registered infrared
    image to its correct position. ``offset`` is its mean length in image widths; ``near`` the fraction of the blocks
    that agree. ``sure`` is false where the images have too little structure in common.
    """

    matrix: Matrix3
    offset: float
    near: float
    blocks: int
    size: Size

    @property
    def sure(self) -> bool:
        return self.near >= MIN_NEAR and self.blocks >= MIN_BLOCKS


class DriftMeter:
    """Averages the correlation surfaces of the last samples, so that noise and moving objects cancel out."""

    def __init__(self, window: int = WINDOW) -> None:
        self._recent: deque[Matches] = deque(maxlen=window)

    def reset(self) -> None:
        """Discards the samples, which were taken with another warp."""
        self._recent.clear()

    def measure(self, registered: Luma8, visible: Luma8, valid: Luma8 | None) -> Measurement:
        """One more sample: HxW uint8 infrared in the visible geometry, HxW uint8 visible, and the valid mask."""
        height, width = visible.shape
        small = min(WIDTH_PX, width), max(8, round(min(WIDTH_PX, width) * height / width))
        seen: NDArray[np.float32] = np.ones((small[1], small[0]), np.float32)
        if valid is not None:
            seen = (shrunk(valid, small) == 255).astype(np.float32)
        matches = match_blocks(
            gradient_field(shrunk(registered, small)),
            gradient_field(shrunk(visible, small)),
            seen,
            block_px=BLOCK_PX,
            step_px=STEP_PX,
            radius_px=RADIUS_PX,
        )
        if self._recent and self._recent[-1].size != matches.size:
            self._recent.clear()
        self._recent.append(matches)
        together = pooled(list(self._recent))
        if len(together.centres) < MIN_BLOCKS:
            return Measurement(np.eye(3), 0.0, 0.0, len(together.centres), (width, height))
        found = fit(together, "similarity", 0.5 * RADIUS_PX)
        offset = float(np.hypot(found.displacement[:, 0], found.displacement[:, 1]).mean()) / small[0]
        near = float(together.near(found.displacement).mean())
        full = scaling(small, (width, height)) @ found.matrix @ scaling((width, height), small)
        return Measurement(full, offset, near, len(together.centres), (width, height))


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """A change of state at a capture time."""

    time_s: float
    state: DriftState
    offset: float


@dataclass
class DriftMonitor:
    """The state, with hysteresis: worse after ``ENTER`` consecutive measurements, better after ``LEAVE``.

    Uncertain measurements do not change it: a dark or frozen camera is not drift.
    """

    state: DriftState = DriftState.OK
    offset: float = 0.0
    checks: int = 0
    blind: int = 0
    events: list[DriftEvent] = field(default_factory=list)
    _towards: DriftState | None = None
    _count: int = 0

    def add(self, time_s: float, offset: float | None) -> DriftState:
        """``offset`` from the calibrated warp in image widths, ``None`` where it is not known."""
        self.checks += 1
        if offset is None:
            self.blind += 1
            return self.state
        self.offset = offset
        wanted = self._wanted(offset)
        if wanted is self.state:
            self._towards, self._count = None, 0
            return self.state
        better = _SEVERITY[wanted] < _SEVERITY[self.state]
        if self._towards is None or (_SEVERITY[self._towards] < _SEVERITY[self.state]) != better:
            self._towards, self._count = wanted, 0
        # the smallest change that all of them want, since offsets at a limit are on both sides of it in turn
        self._towards = (max if better else min)(self._towards, wanted, key=lambda state: _SEVERITY[state])
        self._count += 1
        if self._count >= (LEAVE if better else ENTER):
            self.state = self._towards
            self._towards, self._count = None, 0
            if len(self.events) < MAX_EVENTS:
                self.events.append(DriftEvent(time_s, self.state, offset))
        return self.state

    def _wanted(self, offset: float) -> DriftState:
        if offset >= LOST:
            return DriftState.LOST
        if offset >= SUSPECT:
            # leaving LOST needs a clear improvement
            return DriftState.LOST if self.state is DriftState.LOST and offset > 0.7 * LOST else DriftState.SUSPECT
        if self.state is DriftState.OK or offset <= CALM:
            return DriftState.OK
        return DriftState.SUSPECT


@dataclass
class Corrector:
    """Turns measurements into small steps of a correction that stays within bounds.

    ``total`` is what is applied now, 3x3 in pixels of the measured size.
    """

    total: Matrix3 = field(default_factory=lambda: np.eye(3))
    size: Size = (1, 1)
    bounded: bool = False

    def offset(self, matrix: Matrix3 | None = None) -> float:
        """Mean length in widths by which a matrix (default: the correction) moves the corners and the centre."""
        width, height = self.size
        corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1), (width / 2, height / 2)])
        moved = np.concatenate([corners, np.ones((5, 1))], axis=1) @ (self.total if matrix is None else matrix).T
        off = moved[:, :2] / moved[:, 2:] - corners
        return float(np.hypot(off[:, 0], off[:, 1]).mean()) / width

    def step(self, found: Measurement, drifted: bool) -> bool:
        """Applies a part of a measurement; ``True`` where the correction has changed.

        Correction starts with the first drift (``drifted``) and continues from then on.
        """
        begun = not np.array_equal(self.total, np.eye(3))
        if found.size != self.size:
            self.total, self.size = np.eye(3), found.size
        if not found.sure or not (drifted or begun) or found.offset < WORTH:
            return False
        part = min(1.0, STEP / found.offset)
        change = np.eye(3) + part * (found.matrix / found.matrix[2, 2] - np.eye(3))
        total = change @ self.total
        self.bounded = self.offset(total) > MAX_CORRECTION
        if self.bounded:
            return False
        self.total = total
        return True
