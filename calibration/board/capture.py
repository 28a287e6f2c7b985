"""Selects board views from two running cameras. Pure: time is passed in.

A view is accepted when both cameras see the board, the board is still, and its position, size or tilt differs from
those of every accepted view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.intrinsics import GRID, View, coverage_map
from fusepipe.calibration.board.point_detection import Detection
from fusepipe.calibration.board.target import Board
from fusepipe.core.frames import Size

STILL_PART_PER_S = 0.02  # image widths per second that a point may move
NEW_PART = 0.08  # image widths (or apparent shape) by which a new view has to differ
LONGEST_GAP_S = 2.0

Array = NDArray[np.float64]


@dataclass
class Collector:
    """Views accepted so far; :meth:`offer` decides on a pair of frames."""

    board: Board
    infrared_size: Size
    visible_size: Size
    pairs: list[tuple[View, View]] = field(default_factory=list)
    offered: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    _before: tuple[float, Detection] | None = None
    _kept: list[Array] = field(default_factory=list)

    def offer(self, time_s: float, name: str, infrared: Detection | None, visible: Detection | None) -> str:
        """``accepted``, or the reason of the rejection. ``time_s`` is the capture time of the pair."""
        decision = self._decide(time_s, name, infrared, visible)
        self.offered += 1
        self.reasons[decision] = self.reasons.get(decision, 0) + 1
        return decision

    def coverage(self) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Points per cell of the (infrared, visible) images, rows from the top."""
        return (
            coverage_map([one for one, _ in self.pairs], self.infrared_size),
            coverage_map([other for _, other in self.pairs], self.visible_size),
        )

    def _decide(self, time_s: float, name: str, infrared: Detection | None, visible: Detection | None) -> str:
        if infrared is None or visible is None:
            self._before = None
            missing = [b for b, d in (("infrared", infrared), ("visible", visible)) if d is None]
            return f"no complete board in {' and '.join(missing)}"
        before, self._before = self._before, (time_s, visible)
        if before is None or not 0 < time_s - before[0] <= LONGEST_GAP_S:
            return "wait: hold still"
        if self._speed(before[1], visible, time_s - before[0]) > STILL_PART_PER_S:
            return "moving: hold still"
        shape = self._shape(visible)
        if any(np.abs(shape - other).max() < NEW_PART for other in self._kept):
            return "similar to an accepted view: move or tilt the board"
        self._kept.append(shape)
        self.pairs.append((View(name, infrared), View(name, visible)))
        return "accepted"

    def _speed(self, before: Detection, now: Detection, gap_s: float) -> float:
        """Speed of the fastest common point, in image widths per second."""
        _, first, second = np.intersect1d(before.ids, now.ids, return_indices=True)
        if not len(first):
            return float("inf")
        off = now.points[second] - before.points[first]
        return float(np.hypot(off[:, 0], off[:, 1]).max()) / self.visible_size[0] / gap_s

    def _shape(self, detection: Detection) -> Array:
        """Position, size and tilt: centre, extent, and the ratios of opposite sides; in image widths."""
        points = detection.points.astype(np.float64) / self.visible_size[0]
        low, high = points.min(axis=0), points.max(axis=0)
        columns = self.board.shape[0]
        if len(points) != self.board.count:
            return np.concatenate([points.mean(axis=0), high - low, np.zeros(2)])
        corners = points[0], points[columns - 1], points[-columns], points[-1]
        top, bottom = (float(np.linalg.norm(corners[i + 1] - corners[i])) for i in (0, 2))
        left, right = (float(np.linalg.norm(corners[i + 2] - corners[i])) for i in (0, 1))
        return np.concatenate([points.mean(axis=0), high - low, np.log([top / bottom, left / right]) / 2])


def coverage_lines(counts: NDArray[np.int_]) -> list[str]:
    """A coverage map for a terminal: a dot for an empty cell, a block for a covered one."""
    assert counts.shape == (GRID[1], GRID[0])
    return ["".join("██" if count else "··" for count in row) for row in counts]
