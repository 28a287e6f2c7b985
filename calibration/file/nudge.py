"""Moving the registered image by hand: a shift, a turn and a stretch, and the calibration that includes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusepipe.calibration.file.model import Calibration, Kind, make_calibration
from fusepipe.calibration.file.named_planes import at_plane, with_plane
from fusepipe.calibration.matrix import Matrix3
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size

MAX_SHIFT = 0.5  # of the width and height
MAX_TURN_DEG = 20.0
MIN_STRETCH, MAX_STRETCH = 0.7, 1.4


@dataclass(frozen=True, slots=True)
class Nudge:
    """Moves the registered image right and down, in parts of the visible width and height.

    ``turn_deg`` turns it clockwise and ``stretch`` enlarges it around the middle of the visible image. Raises
    :class:`UsageError` for more than a calibration may be off by.
    """

    right: float = 0.0
    down: float = 0.0
    turn_deg: float = 0.0
    stretch: float = 1.0

    def __post_init__(self) -> None:
        for name in ("right", "down", "turn_deg"):
            value, most = getattr(self, name), MAX_TURN_DEG if name == "turn_deg" else MAX_SHIFT
            if not -most <= value <= most:  # also NaN
                raise UsageError(f"{name}: {value:g} is not between {-most:g} and {most:g}")
        if not MIN_STRETCH <= self.stretch <= MAX_STRETCH:
            raise UsageError(f"stretch: {self.stretch:g} is not between {MIN_STRETCH:g} and {MAX_STRETCH:g}")

    @property
    def moves(self) -> bool:
        """Whether it changes anything."""
        return self != Nudge()

    def matrix(self, visible: Size) -> Matrix3:
        """3x3, visible pixel to visible pixel of images of this (width, height)."""
        x, y = (visible[0] - 1) / 2, (visible[1] - 1) / 2
        angle = np.deg2rad(self.turn_deg)
        cosine, sine = self.stretch * np.cos(angle), self.stretch * np.sin(angle)
        right, down = self.right * visible[0], self.down * visible[1]
        return np.array(
            [
                [cosine, -sine, x - cosine * x + sine * y + right],
                [sine, cosine, y - sine * x - cosine * y + down],
                [0.0, 0.0, 1.0],
            ]
        )


def nudged(calibration: Calibration, nudge: Nudge) -> Calibration:
    """The calibration with the nudge in its matrix. Raises :class:`UsageError` for kind ``stereo``, which has none."""
    if calibration.kind == "stereo":
        raise UsageError(
            "a calibration of kind stereo cannot be moved by hand, since it follows from lenses and a pose: calibrate "
            "again with 'fusepipe calibrate board'"
        )
    kind: Kind = "affine" if calibration.kind == "identity" else calibration.kind
    quality = {**(calibration.quality or {}), "moved_by_hand": "yes"}
    by = nudge.matrix(calibration.visible.size)
    new = make_calibration(
        kind,
        calibration.infrared.size,
        calibration.visible.size,
        by @ calibration.matrix3(),
        made=calibration.made,
        quality=quality,
        plane_distance_m=calibration.plane_distance_m,
        parallax_px_m=calibration.parallax_px_m,
        infrared_lens=calibration.infrared_lens(),
    )
    new = new.model_copy(update={"plane": calibration.plane})
    for name, plane in (calibration.planes or {}).items():  # the bracket has moved, whatever the distance
        new = with_plane(new, name, by @ at_plane(calibration, name).matrix3(), plane.plane_distance_m)
    return new
