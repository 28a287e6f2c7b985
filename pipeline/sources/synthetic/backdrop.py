"""The street without its movers, painted once for each camera: the planes that every frame begins with."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from fusepipe.core.frames import Band, Pixels
from fusepipe.pipeline.sources.synthetic.drawing import Canvas, Floats
from fusepipe.pipeline.sources.synthetic.layers import ycbcr
from fusepipe.pipeline.sources.synthetic.options import Light
from fusepipe.pipeline.sources.synthetic.street import BASE, NEAREST, lit_image, paint_street
from fusepipe.pipeline.sources.synthetic.truth import camera_matrix, view_corners

COLDEST_C, HOTTEST_C = -6.0, 36.0
"""The fixed temperature range of 8-bit infrared images, for day and night."""
COUNTS_PER_KELVIN = 25.0
COUNTS_AT_0C = 273.15 * COUNTS_PER_KELVIN
"""16-bit pixels are the absolute temperature in steps of 0.04 K, as radiometric cameras give it."""

_CLIMB = 420.0  # the world ends this far above and below its middle; beyond, its edge is replicated


def thermal_gain(depth: int) -> tuple[float, float]:
    """Pixel values a kelvin, and the pixel value of 0 °C, of an infrared camera of 8 or 16 bits."""
    if depth == 16:
        return COUNTS_PER_KELVIN, COUNTS_AT_0C
    gain = 255.0 / (HOTTEST_C - COLDEST_C)
    return gain, -COLDEST_C * gain


@lru_cache(maxsize=8)
def backdrop(
    band: Band, light: Light, size: tuple[int, int], depth: int, parallax: float, background: str
) -> tuple[Pixels, ...]:
    """(Y, Cb, Cr) or one infrared plane of a camera with ``size`` (width, height); read-only.

    The last few are kept: painting one takes as long as hundreds of frames.
    """
    camera = camera_matrix(band, size)
    scale_px = float(np.hypot(camera[0, 0], camera[1, 0]))
    x, y = view_corners(band, size)
    # Painted at twice the camera's scale and averaged down; never finer than 4 pixels a unit, which is
    # 2560 across, for the largest images.
    scale = float(np.clip(2 * scale_px, 0.5, 4.0))
    top, bottom = max(float(y.min()) - 4, -_CLIMB), min(float(y.max()) + 4, _CLIMB)
    canvas = Canvas(band, light, float(x.min()) - 4, top, float(x.max()) + 4, bottom, scale)
    if band is Band.INFRARED:  # the ground has a parallax for one camera only: the other is the reference
        canvas.lean_from, canvas.lean_slope = BASE, parallax / (NEAREST - BASE)
    if background == "street":
        paint_street(canvas)
    world = lit_image(canvas)
    blur = 0.35 * scale / scale_px if scale > 1.2 * scale_px else 0.0
    blur *= 2.4 if band is Band.INFRARED else 1.0  # thermal lenses are soft
    if blur > 0.3:
        world = cv2.GaussianBlur(world, (0, 0), blur)
    to_camera = (camera @ canvas.to_world)[:2]
    image = cv2.warpAffine(world, to_camera, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    planes = (_thermal_plane(image, depth),) if band is Band.INFRARED else _colour_planes(image)
    for plane in planes:
        plane.flags.writeable = False
    return planes


def _thermal_plane(temp: Floats, depth: int) -> Pixels:
    """HxW °C to pixel values."""
    gain, at_zero = thermal_gain(depth)
    levels = np.rint(temp * np.float32(gain) + np.float32(at_zero))
    if depth == 16:
        return np.asarray(np.clip(levels, 0, 65535), np.uint16)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def _colour_planes(image: Floats) -> tuple[Pixels, ...]:
    """HxWx3 R, G, B to Y and to Cb and Cr of half the size, rounded up."""
    ycc = ycbcr(image)
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(ycc, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    small = cv2.resize(even, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    planes = (ycc[..., 0], small[..., 1], small[..., 2])
    return tuple(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)
