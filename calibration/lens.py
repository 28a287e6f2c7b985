"""A camera's lens: pinhole with Brown's distortion, or fisheye (Kannala and Brandt), as OpenCV writes them.

``x, y`` of a ray are its direction divided by its depth; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size

LensModel = Literal["pinhole", "fisheye"]
Array = NDArray[np.float64]
EXACT_PX = 1e-3
"""How far from its pixel a ray of :meth:`Lens.rays` may project; what is farther off has no ray in the lens model."""
_ROUNDS, _NEWTON_ROUNDS = 12, 20
_LONGEST_STEP, _DIFFERENCE = 0.25, 1e-6  # of a ray in one round of Newton's method, and for its derivatives
_INSIDE = 0.98  # part of the model's range in which its rounds start, so that they find the ray and not its fold
FAR_RADIUS = 4.0  # of a ray 76 degrees off the axis; lens models are not examined farther out

_COUNTS = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (0, 4)}


@dataclass(frozen=True, slots=True)
class Lens:
    """Focal lengths and principal point in pixels of ``size`` (width, height) images; distortion as in OpenCV.

    ``distortion`` is (k1, k2, p1, p2, k3, ...) for ``pinhole``, (k1, k2, k3, k4) for ``fisheye``; empty: none.
    """

    size: Size
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: LensModel = "pinhole"

    def __post_init__(self) -> None:
        if len(self.distortion) not in _COUNTS[self.model]:
            counts = ", ".join(map(str, _COUNTS[self.model]))
            raise UsageError(f"a {self.model} lens has {counts} distortion coefficients, not {len(self.distortion)}")
        if not (self.fx > 0 and self.fy > 0):
            raise UsageError(f"the focal lengths are {self.fx:g} and {self.fy:g} pixels; they have to be above 0")

    @property
    def matrix(self) -> Array:
        """3x3: ray (x, y, 1) to pixel, without the distortion."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def field_of_view_deg(self) -> float:
        """Horizontal field of view, without distortion."""
        if self.model == "fisheye":
            return float(np.degrees(self.size[0] / self.fx))
        return float(2 * np.degrees(np.arctan(self.size[0] / 2 / self.fx)))

    def project(self, rays: ArrayLike) -> Array:
        """Nx2 rays (x, y) to Nx2 pixels."""
        rays = np.asarray(rays, np.float64).reshape(-1, 1, 2)
        points = np.concatenate([rays, np.ones((len(rays), 1, 1))], axis=2)
        zero = np.zeros(3)
        coefficients = np.array(self.distortion or (0.0,) * 4)
        if self.model == "fisheye":
            pixels, _ = cv2.fisheye.projectPoints(points, zero, zero, self.matrix, coefficients)
        else:
            pixels, _ = cv2.projectPoints(points, zero, zero, self.matrix, coefficients)
        return np.asarray(pixels, np.float64).reshape(-1, 2)

    def rays(self, pixels: ArrayLike) -> Array:
        """Nx2 pixels to Nx2 rays (x, y): the inverse of :meth:`project`, to :data:`EXACT_PX`.

        For pixels that no ray of the model reaches, the ray at which the search ended.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
        if not any(self.distortion) and self.model == "pinhole":
            return np.asarray((pixels[:, 0] - (self.cx, self.cy)) / (self.fx, self.fy), np.float64)
        coefficients = np.array(self.distortion or (0.0,) * 4)
        undistort = cv2.fisheye.undistortPoints if self.model == "fisheye" else cv2.undistortPoints
        rays = np.asarray(undistort(pixels, self.matrix, coefficients), np.float64).reshape(-1, 2)
        # OpenCV stops after a few rounds, which leaves a tenth of a pixel at the corners of wide lenses
        for _ in range(_ROUNDS):
            off = pixels[:, 0] - self.project(rays)
            if float(np.abs(off).max(initial=0.0)) < EXACT_PX:
                return rays
            rays = rays + off / (self.fx, self.fy)
        return self._by_newton(rays, pixels[:, 0])

    def _by_newton(self, rays: Array, pixels: Array) -> Array:
        """The rays (Nx2), improved where they miss their pixels.

        Near the end of the model's range the distorted radius hardly grows, and a step of the size of the error is too
        short.
        """
        left = np.nonzero(~(np.abs(pixels - self.project(rays)).max(axis=1) < EXACT_PX))[0]
        found = rays.copy()
        usable = np.isfinite(rays[left]).all(axis=1) & (np.hypot(*rays[left].T) < FAR_RADIUS)
        start = np.where(usable[:, None], rays[left], (pixels[left] - (self.cx, self.cy)) / (self.fx, self.fy))
        inside = _INSIDE * min(radius_limit(self), FAR_RADIUS)
        found[left] = start * np.minimum(1.0, inside / np.maximum(np.hypot(*start.T), 1e-9))[:, None]
        for _ in range(_NEWTON_ROUNDS):
            if not len(left):
                break
            at = self.project(found[left])
            by_x, by_y = ((self.project(found[left] + step) - at) / _DIFFERENCE for step in np.eye(2) * _DIFFERENCE)
            off = pixels[left] - at
            with np.errstate(divide="ignore", invalid="ignore"):
                determinant = by_x[:, 0] * by_y[:, 1] - by_y[:, 0] * by_x[:, 1]
                x = (off[:, 0] * by_y[:, 1] - off[:, 1] * by_y[:, 0]) / determinant
                y = (off[:, 1] * by_x[:, 0] - off[:, 0] * by_x[:, 1]) / determinant
            step = np.nan_to_num(np.stack([x, y], axis=1), posinf=0.0, neginf=0.0)
            found[left] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(np.hypot(*step.T), 1e-12))[:, None]
            left = left[np.abs(off).max(axis=1) >= EXACT_PX]
        return found

    def at(self, size: Size) -> Lens:
        """The same lens for images of another size of the same view."""
        if size == self.size:
            return self
        sx, sy = size[0] / self.size[0], size[1] / self.size[1]
        return Lens(
            size,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            self.distortion,
            self.model,
        )


def radius_limit(lens: Lens) -> float:
    """The largest radius of a ray at which the distorted radius still grows: beyond, the model folds back.

    Infinite where it grows as far as :data:`FAR_RADIUS`.
    """
    radius = np.linspace(0, FAR_RADIUS, 801)
    rays = np.stack([radius, np.zeros_like(radius)], axis=1)
    out = (lens.project(rays)[:, 0] - lens.cx) / lens.fx
    falls = np.nonzero(np.diff(out) <= 0)[0]
    return float(radius[falls[0]]) if len(falls) else float("inf")
