"""Repeating patterns: a second place at which the infrared image agrees with the visible one about as well.

Boards, facades and fences look the same one period further. The registered infrared image is shifted over the visible
one by a few Fourier transforms; where a second shift correlates well, block matching starts from there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, energy
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.block_matching import VisibleFields, WarpedInfrared, size_of
from fusepipe.calibration.scene.local_matches import PLANE_MODELS, Model
from fusepipe.calibration.scene.refinement import Refined, refined
from fusepipe.calibration.scene.search import ScenePair

WIDTH_PX = 256
APART_PX = 5  # of 256: nearer shifts belong to the same place
MIN_OVERLAP = 0.4  # of what the infrared camera sees
SECOND_SHIFT = 0.55  # of the first one's correlation: measured: at most 0.4 without a repeating pattern
EQUAL = 0.85  # of the first place's evidence: which of the two is right cannot be told
SIMILAR = 0.6  # what a warning is worth
SAME_PLACE = 0.01  # of the width: two maps nearer than this, mean over the common view, are one


@dataclass(frozen=True, slots=True)
class SecondPlace:
    """``found`` is the other map, ``apart_px`` how far it moves the view from the first one (mean, visible pixels).

    ``part`` is its evidence over that of the first one.
    """

    found: Refined
    apart_px: float
    part: float

    def other(self, first: Refined) -> SecondPlace | None:
        """The first place as the second one of this; ``None`` where it is far worse."""
        return SecondPlace(first, self.apart_px, 1 / self.part) if 1 / self.part >= SIMILAR else None

    @property
    def text(self) -> str:
        return (
            f"the scene repeats itself: an alignment that is {self.apart_px:.0f} px away agrees "
            f"{'about as well' if self.part >= EQUAL else f'{self.part:.0%} as well'}"
        )


def second_place(
    pairs: Sequence[ScenePair],
    matrix: Matrix3,
    evidence: float,
    fields: VisibleFields,
    models: Sequence[Model] = PLANE_MODELS,
    lens: Lens | None = None,
) -> SecondPlace | None:
    """The place other than that of ``matrix`` (3x3, infrared to visible pixel) that agrees best.

    ``evidence`` is that for the matrix. ``None`` where no other place has ``SIMILAR`` times as much.
    """
    infrared, visible = size_of(pairs[0].infrared), size_of(pairs[0].visible)
    view = WarpedInfrared(matrix, lens, infrared, visible, WIDTH_PX)
    shift, part = _second_shift(
        [(view.field(pair.infrared), fields.at(n, view.size[0])) for n, pair in enumerate(pairs)], view.seen
    )
    if part < SECOND_SHIFT:
        return None
    moved = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]], [0.0, 0.0, 1.0]])
    start = scaling(view.size, visible) @ moved @ scaling(visible, view.size) @ matrix
    found = refined(pairs, start, fields, models)
    second = SecondPlace(found, _apart_px(matrix, found.matrix, infrared), found.quality.evidence / max(evidence, 1e-6))
    return second if second.apart_px > SAME_PLACE * visible[0] and second.part >= SIMILAR else None


def _second_shift(fields: Sequence[tuple[Field, Field]], seen: NDArray[np.float32]) -> tuple[tuple[int, int], float]:
    """((dx, dy), its correlation as a part of that of the unmoved image) of the best shift beyond ``APART_PX``."""
    height, width = seen.shape
    shape = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
    mask, whole = (np.fft.rfft2(image, shape) for image in (seen, np.ones_like(seen)))
    shared = np.fft.irfft2(np.conj(mask) * whole, shape)
    total = np.zeros(shape)
    for infrared, visible in fields:
        own = infrared * seen[..., None]
        product = np.fft.ifft2(np.conj(np.fft.fft2(_complex(own), shape)) * np.fft.fft2(_complex(visible), shape)).real
        energies = [np.fft.rfft2(energy(image), shape) for image in (own, visible)]
        under = np.fft.irfft2(np.conj(energies[0]) * whole, shape), np.fft.irfft2(np.conj(mask) * energies[1], shape)
        total += product / np.sqrt(np.maximum(under[0], 1.0) * np.maximum(under[1], 1.0))
    strength = np.where(shared < MIN_OVERLAP * seen.sum(), -1.0, total * np.sqrt(np.maximum(shared, 0.0)))
    strength = np.asarray(strength, np.float32)
    near = np.arange(-APART_PX, APART_PX + 1)
    here = np.ix_(near % shape[0], near % shape[1])
    first = float(strength[here].max())
    wrapped = np.pad(strength, APART_PX, mode="wrap")
    highest = cv2.dilate(wrapped, np.ones((2 * APART_PX + 1, 2 * APART_PX + 1), np.uint8))
    # the slope of the first peak is long in the direction of the edges
    strength[strength < highest[APART_PX:-APART_PX, APART_PX:-APART_PX]] = -1.0
    strength[here] = -1.0
    y, x = (int(v) for v in np.unravel_index(int(np.argmax(strength)), shape))
    moved = x - shape[1] if x >= width else x, y - shape[0] if y >= height else y
    return moved, float(strength[y, x]) / max(first, 1e-6)


def _complex(field: Field) -> NDArray[np.complex64]:
    return np.ascontiguousarray(field, np.float32).view(np.complex64)[..., 0]


def _apart_px(one: Matrix3, other: Matrix3, infrared: tuple[int, int]) -> float:
    x, y = np.meshgrid(np.linspace(0, infrared[0] - 1, 5), np.linspace(0, infrared[1] - 1, 5))
    points = np.stack([x.ravel(), y.ravel()], axis=1)[None]
    off = cv2.perspectiveTransform(points, one)[0] - cv2.perspectiveTransform(points, other)[0]
    return float(np.hypot(off[:, 0], off[:, 1]).mean())
