"""Planes to full-range B, G, R, and colours to Y, Cb, Cr."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core import levels
from fusepipe.core.planes import Matrix, Pixels, Plane, ValueRange

# luma weights of red and blue: ITU-R BT.709, BT.2020 (non-constant luminance)
_WEIGHTS = {"bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
BAND = 256  # rows converted together: the steps between take several times the memory of the image


def planes_to_bgr(planes: Sequence[Plane], matrix: Matrix) -> Pixels:
    """HxW uint8 (grey, from one plane) or HxWx3 uint8 (B, G, R, from Y, Cb, Cr), full range.

    Full-size BT.601 chroma takes OpenCV's exact inverse of its own conversion, which image files were read with; else
    chroma is interpolated to full size and converted with ``matrix`` (BT.601, BT.709 or BT.2020).
    """
    luma = levels.full_range_luma(planes[0])
    if len(planes) == 1:
        return luma
    height, width = luma.shape
    cb, cr = (_full_chroma(p, width, height) for p in planes[1:])
    bgr = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND):
        rows = slice(top, top + BAND)
        _mix(luma[rows], cb[rows], cr[rows], matrix, bgr[rows])
    return bgr


def bgr_to_planes(bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """HxWx3 uint8 (B, G, R), full range, to full-size Y, Cb and Cr of BT.601, HxW uint8 each."""
    y, cb, cr = (np.empty(bgr.shape[:2], np.uint8) for _ in range(3))
    for top in range(0, bgr.shape[0], BAND):
        rows = slice(top, top + BAND)
        converted = cv2.cvtColor(bgr[rows], cv2.COLOR_BGR2YCrCb)
        for channel, plane in enumerate((y, cr, cb)):
            cv2.extractChannel(converted, channel, dst=plane[rows])
    return y, cb, cr


def _mix(luma: Pixels, cb: Pixels, cr: Pixels, matrix: Matrix, bgr: NDArray[np.uint8]) -> None:
    if matrix == "bt601":
        cv2.cvtColor(cv2.merge([luma, cr, cb]), cv2.COLOR_YCrCb2BGR, dst=bgr)
        return
    kr, kb = _WEIGHTS[matrix]
    kg, blue, red = 1 - kr - kb, 2 * (1 - kb), 2 * (1 - kr)
    mix = np.array(
        [
            [1, blue, 0, -128 * blue],
            [1, -blue * kb / kg, -red * kr / kg, 128 * (blue * kb + red * kr) / kg],
            [1, 0, red, -128 * red],
        ],
        np.float32,
    )
    mixed = cv2.transform(cv2.merge([luma, cb, cr]).astype(np.float32), mix)
    cv2.convertScaleAbs(np.maximum(mixed, 0), dst=bgr)


def _full_chroma(plane: Plane, width: int, height: int) -> Pixels:
    pixels = plane.pixels
    if plane.value_range == "limited":
        pixels = cv2.LUT(pixels, levels.chroma_to_full())
    if pixels.shape != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(pixels)


def bgr_to_ycc(bgr: NDArray[np.uint8], matrix: Matrix, value_range: ValueRange) -> NDArray[np.uint8]:
    """Nx3 uint8 colours (B, G, R), full range, to Nx3 uint8 (Y, Cb, Cr) of a matrix and value range, rounded.

    ITU-R BT.601-7, 2.5.1 and 2.5.3; the same form with other weights in BT.709-6 and BT.2020-2.
    """
    kr, kb = (0.299, 0.114) if matrix == "bt601" else _WEIGHTS[matrix]
    blue, green, red = (bgr[:, channel].astype(np.float64) for channel in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if value_range == "limited":
        luma, cb, cr = 16 + luma * 219 / 255, cb * 224 / 255, cr * 224 / 255
    return np.clip(np.stack([luma, cb + 128, cr + 128], axis=1).round(), 0, 255).astype(np.uint8)
