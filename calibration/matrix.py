"""3x3 matrices from infrared to visible pixels: checked, and rescaled to other resolutions.

A matrix takes an infrared pixel (x, y, 1) to a visible pixel, pixel centres at whole coordinates: the
image of w x h pixels covers -0.5..w-0.5 by -0.5..h-0.5. Sizes are (width, height).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size

Matrix3 = NDArray[np.float64]

# cv2.remap holds pixel coordinates in 16 bits
MAX_SIDE_PX = 32766

# Ratio of the largest to the smallest singular value, images scaled to -1..1: beyond it one pixel of
# the one image would be spread over thousands of the other.
MAX_CONDITION = 1e6

ASPECT_TOLERANCE = 0.02


def check_size(size: Size, name: str) -> Size:
    """(width, height) as whole numbers from 1 to 32766; raises :class:`UsageError`."""
    width, height = int(size[0]), int(size[1])
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise UsageError(f"the {name} size is {width}x{height}; each side should be 1 to {MAX_SIDE_PX} pixels")
    return width, height


def scaling(from_size: Size, to_size: Size) -> Matrix3:
    """The matrix that stretches an image of one size to another: ``x' = (x + 0.5) s - 0.5``."""
    sx, sy = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5], [0.0, 0.0, 1.0]])


def check_matrix(matrix: ArrayLike, infrared_size: Size, visible_size: Size) -> Matrix3:
    """A usable matrix as 3x3 float64: positive homogeneous w at the infrared centre, largest value 1.

    ``matrix`` is 3x3, or 2x3 for an affine map. A matrix and its multiples are the same map; the sign
    is chosen so that the centre of the infrared image is in front of the visible camera. Raises
    :class:`UsageError` for values that are not finite, for a matrix that cannot be inverted and for one
    that sends the infrared centre to infinity.
    """
    m = np.asarray(matrix, dtype=np.float64)
    if m.shape == (2, 3):
        m = np.vstack([m, [0.0, 0.0, 1.0]])
    if m.shape != (3, 3):
        raise UsageError(f"a calibration matrix has 3x3 numbers (2x3 where it is affine), not {m.shape}")
    if not np.isfinite(m).all():
        raise UsageError("the calibration matrix has a value that is not finite")
    largest = float(np.abs(m).max())
    if largest == 0:
        raise UsageError("the calibration matrix is zero")
    m = m / largest
    # judged with both images scaled to -1..1, so that the pixel sizes do not matter
    scaled = _to_unit(visible_size) @ m @ np.linalg.inv(_to_unit(infrared_size))
    values = np.linalg.svd(scaled, compute_uv=False)
    if values[2] * MAX_CONDITION < values[0]:
        raise UsageError(
            "the calibration matrix is singular: it flattens the infrared image to a line or a point; "
            "calibrate again with points that cover the whole image"
        )
    w = scaled[2]
    if abs(w[2]) <= 1e-6 * float(np.abs(w).max()):
        raise UsageError(
            "the calibration matrix sends the centre of the infrared image to infinity; "
            "the matrix should take infrared (x, y, 1) to visible pixels"
        )
    return m if w[2] > 0 else -m


def _to_unit(size: Size) -> Matrix3:
    """The matrix that takes pixels of an image to -1..1."""
    width, height = size
    return np.array([[2.0 / width, 0.0, 1.0 / width - 1.0], [0.0, 2.0 / height, 1.0 / height - 1.0], [0.0, 0.0, 1.0]])


def same_shape(made: Size, now: Size) -> bool:
    """Whether images of two sizes (width, height) have the same aspect ratio, as far as a calibration asks for it."""
    return abs((now[0] * made[1]) / (now[1] * made[0]) - 1.0) <= ASPECT_TOLERANCE


def rescale_matrix(matrix: ArrayLike, from_ir: Size, from_vis: Size, to_ir: Size, to_vis: Size) -> Matrix3:
    """The same cameras' matrix (3x3, infrared to visible pixel) at other resolutions.

    A calibration made at ``from_ir`` and ``from_vis`` is valid where the cameras deliver the same field
    of view in ``to_ir`` and ``to_vis`` pixels. Raises :class:`UsageError` where the aspect ratio of a
    camera changed by more than 2 %: the image was cropped, and scaling cannot undo that.
    """
    for name, old, new in (("infrared", from_ir, to_ir), ("visible", from_vis, to_vis)):
        if not same_shape(old, new):
            raise UsageError(
                f"the {name} camera delivers {new[0]}x{new[1]}, the calibration was made at {old[0]}x{old[1]}: "
                f"another aspect ratio, so another field of view; set the camera to a size of the same aspect "
                f"ratio or calibrate again"
            )
    m = np.asarray(matrix, dtype=np.float64)
    if (from_ir, from_vis) == (to_ir, to_vis):
        return m
    return scaling(from_vis, to_vis) @ m @ scaling(to_ir, from_ir)
