"""Calibration boards: kinds, and the positions of their points.

Points of a board are in metres in the board's own plane, z = 0; a detection lists them in the same order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError

BoardKind = Literal["checkerboard", "circles", "symmetric-circles", "charuco", "aprilgrid"]
KINDS: tuple[BoardKind, ...] = ("checkerboard", "circles", "symmetric-circles", "charuco", "aprilgrid")
MARKED: tuple[BoardKind, ...] = ("charuco", "aprilgrid")  # numbered points, of which some may be hidden
MIN_TAGS, MAX_TAGS = 4, 587
MIN_SPACING_M, MAX_SPACING_M = 1e-4, 1.0
_SYNTAX = {
    "checkerboard": "checkerboard:6x5:0.1m (inner corners across and down, side of a square)",
    "circles": "circles:4x11:0.04m (circles in a row, rows, half the distance between neighbours in a row)",
    "symmetric-circles": "symmetric-circles:9x6:0.03m (circles across and down, distance between neighbours)",
    "charuco": "charuco:8x6:0.04m:0.03m (squares across and down, side of a square, side of a marker)",
    "aprilgrid": "aprilgrid:6x6:0.1144m:0.088m (tags across and down, from one tag to the next, side of a tag)",
}


@dataclass(frozen=True, slots=True)
class Board:
    """``columns`` x ``rows`` points (squares for ChArUco, tags for an AprilGrid), ``spacing_m`` apart.

    ``circles`` is OpenCV's asymmetric grid: every second row is shifted by half of the distance between
    two circles of a row; that half is ``spacing_m``. ``symmetric-circles`` has a circle on every corner of a square.
    ``marker_m`` is the side of a ChArUco marker of the dictionary ``DICT_5X5_100``, or of a tag of the family 36h11
    with a border of two cells; ``aprilgrid`` is Kalibr's, whose points are the corners of the tags.
    """

    kind: BoardKind
    columns: int
    rows: int
    spacing_m: float
    marker_m: float = 0.0

    def __post_init__(self) -> None:
        low, lowest = {"circles": (2, 3), "aprilgrid": (1, 1)}.get(self.kind, (3, 3))
        if not (low <= self.columns <= 60 and lowest <= self.rows <= 60):
            raise UsageError(
                f"a {self.kind} board of {self.columns}x{self.rows}: {low} to 60 across and {lowest} to 60 down are "
                "possible"
            )
        if self.kind == "aprilgrid" and not MIN_TAGS <= self.columns * self.rows <= MAX_TAGS:
            raise UsageError(
                f"an aprilgrid of {self.columns}x{self.rows} tags: {MIN_TAGS} to {MAX_TAGS} are possible, as many as "
                "36h11 has"
            )
        if self.kind in ("checkerboard", "symmetric-circles") and self.columns == self.rows:
            what = "inner corners" if self.kind == "checkerboard" else "circles"
            raise UsageError(
                f"a {self.kind} board of {self.columns}x{self.rows} {what} looks the same when rotated by 90 "
                "degrees: use one with unequal sides"
            )
        if not MIN_SPACING_M <= self.spacing_m <= MAX_SPACING_M:
            raise UsageError(
                f"the board's spacing is {self.spacing_m:g} m; 0.1 mm to {MAX_SPACING_M:g} m is possible: is the unit "
                "right (25mm, 2.5cm, 0.025m)?"
            )
        if self.kind in MARKED and not 0 < self.marker_m < self.spacing_m:
            where = "squares of" if self.kind == "charuco" else "a grid of one every"
            raise UsageError(f"a marker of {self.marker_m:g} m does not fit into {where} {self.spacing_m:g} m")

    @property
    def count(self) -> int:
        """The number of points."""
        columns, rows = self.shape
        return columns * rows

    @property
    def shape(self) -> tuple[int, int]:
        """(columns, rows) of its points."""
        if self.kind == "aprilgrid":
            return 2 * self.columns, 2 * self.rows
        return (self.columns - 1, self.rows - 1) if self.kind == "charuco" else (self.columns, self.rows)

    def points(self) -> NDArray[np.float32]:
        """Nx3 float32 metres, row by row."""
        columns, rows = self.shape
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        if self.kind == "circles":
            x = 2 * x + (y % 2)
        if self.kind == "aprilgrid":
            x, y = (axis // 2 + axis % 2 * np.float32(self.marker_m / self.spacing_m) for axis in (x, y))
        return np.stack([x.ravel(), y.ravel(), np.zeros(x.size, np.float32)], axis=1) * np.float32(self.spacing_m)

    def half_turn(self) -> NDArray[np.intp]:
        """The order of the points when the board is rotated by 180 degrees in its plane.

        A symmetric grid of circles, a checkerboard with one odd and one even number of corners, and an asymmetric grid
        with an odd number of rows look the same then: an image does not tell which end is up.
        """
        return np.arange(self.count)[::-1]

    def __str__(self) -> str:
        marker = f":{self.marker_m:g}m" if self.kind in MARKED else ""
        return f"{self.kind}:{self.columns}x{self.rows}:{self.spacing_m:g}m{marker}"


def parse_board(text: str) -> Board:
    """``checkerboard:6x5:0.1m`` and the like; raises :class:`UsageError` with the expected form."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise UsageError(f"{text!r} is not a board: use {'; or '.join(_SYNTAX.values())}")
    length = r"(\d+(?:\.\d+)?)(m|cm|mm)"
    pattern = rf"(\d+)x(\d+):{length}" + (rf":{length}" if kind in MARKED else "")
    match = re.fullmatch(pattern, rest)
    if match is None and re.fullmatch(r"\d+x\d+(:[\d.]+)+", rest):
        raise UsageError(f"{text!r}: lengths need a unit, mm, cm or m: {_SYNTAX[kind]}")
    if match is None:
        raise UsageError(f"{text!r} is not a {kind} board: use {_SYNTAX[kind]}")
    unit = {"m": 1.0, "cm": 0.01, "mm": 0.001}
    marker = float(match[5]) * unit[match[6]] if kind in MARKED else 0.0
    return Board(kind, int(match[1]), int(match[2]), float(match[3]) * unit[match[4]], marker)
