"""Ground truth of the geometry: the matrices of the two synthetic cameras, and the true transform between them.

The world's background plane is measured in units of which 640 fill the visible camera's width, with
(0, 0) on the visible camera's axis, x to the right and y down. The infrared camera has a narrower
view, is turned a little and looks a little beside it. Pixel centres are at integers. All matrices are
3x3 float64 and map column vectors (x, y, 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.options import parse_options

Matrix33 = NDArray[np.float64]

VIEW_WIDTH = 640.0
"""World units across the visible image, whatever its size in pixels."""

INFRARED_VIEW = 0.86
"""The infrared camera's width of view as a part of the visible one's."""

INFRARED_TURN_DEG = 1.2
"""The infrared camera's roll: how far its image is turned clockwise in the world."""

INFRARED_AXIS = (9.0, -6.0)
"""The world point in the middle of the infrared image."""


def camera_matrix(band: Band, size: tuple[int, int]) -> Matrix33:
    """World units to pixels of a camera with ``size`` (width, height): a similarity."""
    width, height = size
    if band is Band.VISIBLE:
        view, angle, (x, y) = VIEW_WIDTH, 0.0, (0.0, 0.0)
    else:
        view, angle, (x, y) = VIEW_WIDTH * INFRARED_VIEW, math.radians(INFRARED_TURN_DEG), INFRARED_AXIS
    scale = width / view
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    to_axis = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
    to_centre = np.array([[1.0, 0.0, (width - 1) / 2], [0.0, 1.0, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return np.asarray(to_centre @ turn @ to_axis, np.float64)


def view_corners(band: Band, size: tuple[int, int]) -> NDArray[np.float64]:
    """The world points (2x4: x, y) of the corners of a camera's image, a pixel's width outside it."""
    width, height = size
    corners = np.array([[-1, width, width, -1], [-1, -1, height, height], [1, 1, 1, 1]], np.float64)
    return np.asarray((np.linalg.inv(camera_matrix(band, size)) @ corners)[:2], np.float64)


def true_matrix(ir_size: tuple[int, int], vis_size: tuple[int, int]) -> Matrix33:
    """Infrared pixel to visible pixel for points of the background plane; sizes are (width, height)."""
    matrix = camera_matrix(Band.VISIBLE, vis_size) @ np.linalg.inv(camera_matrix(Band.INFRARED, ir_size))
    return np.asarray(matrix / matrix[2, 2], np.float64)


def synthetic_calibration(url: str, ir_size: tuple[int, int], vis_size: tuple[int, int]) -> Matrix33:
    """The calibration that ``synthetic://SCENE`` names: :func:`true_matrix` of that scene's rig.

    Raises :class:`UsageError` for an unknown scene or invalid sizes.
    """
    parse_options(url, Band.VISIBLE)
    if min(*ir_size, *vis_size) < 1:
        raise UsageError(f"sizes are (width, height) above 0; got {ir_size = } {vis_size = }")
    return true_matrix(ir_size, vis_size)
