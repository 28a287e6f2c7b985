"""The initial search of the infrared image in the visible one: over scale, roll and every shift.

Both images become gradient fields (:mod:`fusepipe.calibration.gradient_field`); for each scale and roll
the normalised correlation of all shifts is computed by a few Fourier transforms. Several pairs of one rig
are searched together. The result is a similarity, accurate to a few percent of the width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, energy, gradient_field, shrunk
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.core.frames import Luma8, Size

SEARCH_WIDTH_PX = 144  # of the visible image: enough for edges, few enough for the transforms
SCALE_STEP = 1.053
MAX_ROLL_DEG = 6.0
ROLL_STEP_DEG = 3.0
ROLLS_TRIED_AT = 2  # scales: the best ones without roll
WIDE_ROLLS_DEG = (9.0, 12.0, 15.0)
MAX_ROLLED_PAIRS = 4
DEFAULT_SCALES = (0.7, 2.3)
MAX_SEARCHED_PAIRS = 8  # more do not improve the result
PEAKS = 3  # shifts kept per scale and roll
PEAK_APART = 0.05  # of the visible width: two shifts nearer than this are one
CANDIDATE_APART = 0.04  # of the visible width, mean over the corners: what block matching reaches anyway


@dataclass(frozen=True, slots=True)
class ScenePair:
    """An infrared and a visible image of the same moment, HxW uint8; their sizes may differ."""

    infrared: Luma8
    visible: Luma8
    name: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """``matrix`` 3x3, infrared pixel to visible pixel; ``score`` -1..1 is the correlation over the overlap.

    ``strength`` is the score times the root of the number of pixels: comparable between overlaps.
    """

    matrix: Matrix3
    strength: float
    score: float
    scale: float


def search(
    pairs: Sequence[ScenePair],
    scales: tuple[float, float] = DEFAULT_SCALES,
    min_overlap: float = 0.3,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> list[Candidate]:
    """The best shifts of each scale and roll tried, the strongest first; see :func:`distinct`.

    ``scales`` bounds the width of the infrared view over that of the visible view. ``min_overlap`` is a
    part of the smaller of the two views. ``step`` is called with the number of scales and rolls done, and of all.
    """
    chosen = [pairs[round(i)] for i in np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_SEARCHED_PAIRS))]
    steps = max(1, math.ceil(math.log(scales[1] / scales[0]) / math.log(SCALE_STEP)))
    tried = np.geomspace(scales[0], scales[1], steps + 1)
    plane = _Plane(chosen, min_overlap)
    rolls = [r for r in np.arange(-MAX_ROLL_DEG, MAX_ROLL_DEG + 0.1, ROLL_STEP_DEG) if abs(r) > 0.1]
    total = len(tried) + min(ROLLS_TRIED_AT, len(tried)) * len(rolls)
    found: list[list[Candidate]] = []

    def search_at(scale: float, roll: float) -> None:
        found.append(plane.peaks(scale, roll))
        step(len(found), total)

    for scale in tried:
        search_at(float(scale), 0.0)
    for best in sorted(found, key=lambda peaks: -peaks[0].strength)[:ROLLS_TRIED_AT]:
        for roll in rolls:
            search_at(best[0].scale, float(roll))
    return sorted((one for peaks in found for one in peaks), key=lambda candidate: -candidate.strength)


def search_rolled(
    pairs: Sequence[ScenePair], scales: tuple[float, float] = DEFAULT_SCALES, min_overlap: float = 0.3
) -> list[Candidate]:
    """The best shifts with more roll than :func:`search` tries, up to ``WIDE_ROLLS_DEG``, the strongest first.

    At every second scale, since a rolled image correlates less sharply; it takes about twice as long.
    """
    chosen = pairs[:MAX_ROLLED_PAIRS]
    steps = max(1, math.ceil(math.log(scales[1] / scales[0]) / math.log(SCALE_STEP) / 2))
    tried = np.geomspace(scales[0], scales[1], steps + 1)
    plane = _Plane(chosen, min_overlap)
    found = [plane.peaks(float(scale), sign * roll) for scale in tried for roll in WIDE_ROLLS_DEG for sign in (-1, 1)]
    return sorted((one for peaks in found for one in peaks), key=lambda candidate: -candidate.strength)


def distinct(candidates: Sequence[Candidate], infrared: Size, visible: Size, most: int) -> list[Candidate]:
    """The strongest candidates whose corners are apart by ``CANDIDATE_APART`` on average; sizes are (width, height)."""
    width, height = infrared
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64)
    kept: list[Candidate] = []
    places: list[NDArray[np.float64]] = []
    for candidate in candidates:
        place = cv2.perspectiveTransform(corners, candidate.matrix)[0]
        off = [float(np.hypot(*(place - other).T).mean()) for other in places]
        if min(off, default=np.inf) > CANDIDATE_APART * visible[0]:
            kept.append(candidate)
            places.append(np.asarray(place, np.float64))
        if len(kept) == most:
            break
    return kept


class _Plane:
    """The visible images' spectra, and the overlaps at each shift of an infrared image of one scale.

    Sums over the overlap of two rectangles need no transform: they are differences of cumulative sums.
    """

    def __init__(self, pairs: Sequence[ScenePair], min_overlap: float) -> None:
        self._pairs = pairs
        self._min_overlap = min_overlap
        vis_h, vis_w = pairs[0].visible.shape
        self._vis_size = (vis_w, vis_h)
        self._width = min(SEARCH_WIDTH_PX, vis_w)
        self._height = max(8, round(self._width * vis_h / vis_w))
        ir_h, ir_w = pairs[0].infrared.shape
        self._aspect = ir_h / ir_w
        self._fields = [gradient_field(shrunk(pair.visible, (self._width, self._height))) for pair in pairs]
        self._sums = [_cumulative(field) for field in self._fields]
        self._canvas: Size = (0, 0)
        self._spectra: list[Field] = []

    def peaks(self, scale: float, roll_deg: float) -> list[Candidate]:
        """The strongest shifts for one scale and roll, at most ``PEAKS``, the strongest first."""
        width = max(8, round(scale * self._width))
        height = max(8, round(width * self._aspect))
        self._prepare(width, height)
        turn = np.vstack([cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), roll_deg, 1.0), [0, 0, 1]])
        shown = _Shifts(self._width, width, self._min_overlap), _Shifts(self._height, height, self._min_overlap)
        shared = np.outer(shown[1].length, shown[0].length).astype(np.float32)
        total = np.zeros(shared.shape, np.float32)
        for pair, spectrum, sums in zip(self._pairs, self._spectra, self._sums, strict=True):
            small = shrunk(pair.infrared, (width, height))
            if roll_deg:
                small = cv2.warpAffine(small, turn[:2], (width, height), borderMode=cv2.BORDER_REPLICATE)
            field = gradient_field(small)
            product = cv2.idft(cv2.mulSpectrums(spectrum, self._transform(field), 0, conjB=True), flags=cv2.DFT_SCALE)
            there = product[..., 0][np.ix_(shown[1].shift % product.shape[0], shown[0].shift % product.shape[1])]
            own = _over(_cumulative(field), shown[1].own, shown[0].own)
            other = _over(sums, shown[1].other, shown[0].other)
            total += there / np.sqrt(np.maximum(own, 1.0) * np.maximum(other, 1.0))
        total /= len(self._pairs)
        smaller = min(self._width * self._height, width * height)
        total[shared < self._min_overlap * smaller] = -1.0
        strength = total * np.sqrt(shared)
        ir_h, ir_w = self._pairs[0].infrared.shape
        before, after = scaling((ir_w, ir_h), (width, height)), scaling((self._width, self._height), self._vis_size)
        found = []
        for y, x in _highest(strength, PEAKS, round(PEAK_APART * self._width)):
            shift = np.array([[1.0, 0.0, shown[0].shift[x]], [0.0, 1.0, shown[1].shift[y]], [0.0, 0.0, 1.0]])
            matrix = after @ shift @ turn @ before
            found.append(Candidate(matrix, float(strength[y, x]), float(total[y, x]), scale))
        return found

    def _prepare(self, width: int, height: int) -> None:
        """Transforms the visible images on a canvas that the infrared ones of a size fit beside, if it is another."""
        canvas = cv2.getOptimalDFTSize(self._width + width), cv2.getOptimalDFTSize(self._height + height)
        if canvas != self._canvas:
            self._canvas = canvas
            self._spectra = [self._transform(field) for field in self._fields]

    def _transform(self, field: Field) -> Field:
        """HxWx2: the spectrum of a field as complex numbers."""
        framed = np.zeros((self._canvas[1], self._canvas[0], 2), np.float32)
        framed[: field.shape[0], : field.shape[1]] = field
        return np.asarray(cv2.dft(framed), np.float32)


class _Shifts:
    """The shifts along one axis at which an image of length ``own`` covers enough of one of length ``other``.

    ``shift`` has N of them, ``length`` the N overlaps, and ``own`` and ``other`` where these begin and end (2xN).
    """

    def __init__(self, other: int, own: int, min_overlap: float) -> None:
        every = np.arange(1 - own, other)
        begin, end = np.maximum(every, 0), np.minimum(every + own, other)
        # the other axis overlaps by the shorter length at most
        kept = end - begin >= min_overlap * min(own, other)
        self.shift, self.length = every[kept], (end - begin)[kept]
        self.other = np.stack([begin, end])[:, kept]
        self.own = self.other - self.shift


def _cumulative(field: Field) -> NDArray[np.float64]:
    """(H+1)x(W+1): the sums of a field's energy (HxWx2) over all that is above and left."""
    return np.asarray(cv2.integral(energy(field)), np.float64)


def _over(sums: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """The energy within each of the rows' ranges (2xM) and columns' (2xN), MxN."""
    band = sums[rows[1]] - sums[rows[0]]
    return np.asarray(band[:, columns[1]] - band[:, columns[0]], np.float32)


def _highest(strength: NDArray[np.float32], most: int, apart_px: int) -> list[tuple[int, int]]:
    """(y, x) of the highest values, at least ``apart_px`` from each other."""
    left = strength.copy()
    found: list[tuple[int, int]] = []
    while len(found) < most:
        y, x = (int(v) for v in np.unravel_index(int(np.argmax(left)), left.shape))
        if found and left[y, x] <= 0:
            break
        found.append((y, x))
        left[max(0, y - apart_px) : y + apart_px + 1, max(0, x - apart_px) : x + apart_px + 1] = -1.0
    return found
