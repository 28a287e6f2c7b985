"""Checks of the input of metrics, HxW uint8 luma of one size; and filters without border effects."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8

Real = NDArray[np.float64]
Variant = Literal["paper", "common"]


def require_luma(minimum_px: int = 1, **images: Luma8) -> None:
    """Refuses anything but HxW uint8 images of one size, each side at least ``minimum_px``.

    Colour, alpha and 16-bit images are refused, never converted: the choice of luma or tone
    mapping would determine the result. The keywords name the images in the message. Raises
    :class:`UsageError`.
    """
    shapes = {image.shape for image in images.values()}
    for name, image in images.items():
        if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0:
            advice = _advice(image)
            raise UsageError(f"a metric takes HxW uint8 luma; {name} is {image.dtype} of shape {image.shape}{advice}")
        if min(image.shape) < minimum_px:
            raise UsageError(
                f"this metric needs images of at least {minimum_px}x{minimum_px}; {name} is "
                f"{image.shape[1]}x{image.shape[0]}"
            )
    if len(shapes) > 1:
        sizes = ", ".join(f"{name} {i.shape[1]}x{i.shape[0]}" for name, i in images.items())
        raise UsageError(f"a metric compares images of one size; got {sizes}")


def _advice(image: NDArray[Any]) -> str:
    """How to convert an image that was refused; empty where that is ambiguous."""
    if image.size == 0:
        return ": it has no pixels"
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return ": convert it to luma (Y of BT.601) first, without alpha"
    if image.dtype == np.uint16:
        return ": map it to 8 bit first, in the same way for all images of a comparison"
    return ""


def require_variant(variant: str) -> None:
    """Refuses a variant other than ``paper`` and ``common``, so that a typing error never changes a result."""
    if variant not in ("paper", "common"):
        raise UsageError(f"unknown metric variant {variant!r}; known: paper, common")


def gaussian(size_px: int, sigma_px: float) -> Real:
    """Normalised 1-D Gaussian of ``size_px`` taps (odd), float64."""
    x = np.arange(size_px, dtype=np.float64) - size_px // 2
    kernel: Real = np.exp(-(x * x) / (2.0 * sigma_px * sigma_px))
    kernel /= kernel.sum()
    return kernel


def filter_valid(image: Real, kernel: Real) -> Real:
    """Separable filter of an HxW float64 image, only where the whole window is inside.

    Gives (H-n+1)x(W-n+1) for n taps: no border rule enters the result.
    """
    r = len(kernel) // 2
    full: Real = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    return full[r : image.shape[0] - r, r : image.shape[1] - r]
