"""Renders the views of the preview from one fused frame. Pure.

All views are HxWx3 uint8 (B, G, R), full range. A missing frame is shown as grey.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.core.frames import FusedFrame, Pixels
from fusepipe.core.image_files import to_bgr
from fusepipe.core.levels import full_range_luma

VIEWS = {  # and their labels on the page
    "fused": "Fused",
    "infrared": "Infrared",
    "visible": "Visible",
    "side": "Side by side",
    "wipe": "Wipe",
    "overlay": "Overlay",
}
MAX_WIDTH_PX = 1280  # sufficient for a preview, and bearable on a mobile link
_GREY = 96


def view(frame: FusedFrame, name: str, wipe: float = 0.5) -> Pixels:
    """One of ``VIEWS``. ``wipe`` (0..1) is the boundary between the visible image (left) and the infrared one.

    ``overlay`` blends the infrared image in false colours with the greyscale visible one.
    """
    if name == "fused":
        return _colour(to_bgr(frame))
    if name == "visible":
        return _visible(frame)
    if name == "infrared":
        return _infrared(frame)
    visible, infrared = _visible(frame), _infrared(frame)
    if name == "side":
        return np.asarray(cv2.hconcat([visible, infrared]))
    if name == "wipe":
        edge = round(min(max(wipe, 0.0), 1.0) * frame.width)
        out = visible.copy()
        out[:, edge:] = infrared[:, edge:]
        out[:, max(0, edge - 1) : edge + 1] = 255
        return out
    if name == "overlay":
        grey = cv2.cvtColor(cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return np.asarray(cv2.addWeighted(grey, 0.5, cv2.applyColorMap(infrared, cv2.COLORMAP_INFERNO), 0.5, 0))
    raise ValueError(f"{name = } is none of {', '.join(VIEWS)}")


def jpeg(frame: FusedFrame, name: str, wipe: float = 0.5, *, quality: int = 80) -> bytes:
    """A view as JPEG, downscaled to ``MAX_WIDTH_PX``."""
    pixels = view(frame, name, wipe)
    height, width = pixels.shape[:2]
    if width > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, max(1, round(height * MAX_WIDTH_PX / width)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return _encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(frame: FusedFrame, name: str, wipe: float = 0.5) -> bytes:
    """A view as PNG, at full resolution."""
    return _encoded(".png", view(frame, name, wipe), [])


def _encoded(suffix: str, pixels: Pixels, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise ValueError(f"OpenCV cannot encode {pixels.shape} as {suffix}")
    return bytes(data.tobytes())


def _visible(frame: FusedFrame) -> Pixels:
    return _fitted(None if frame.pair.visible is None else to_bgr(frame.pair.visible), frame)


def _infrared(frame: FusedFrame) -> Pixels:
    """Registered onto the visible image, or unregistered if there is no registration."""
    pair = frame.pair
    if (luma := pair.registered_luma()) is not None:
        return _fitted(full_range_luma(luma), frame)
    return _fitted(None if pair.infrared is None else full_range_luma(pair.infrared.luma), frame)


def _fitted(pixels: Pixels | None, frame: FusedFrame) -> Pixels:
    if pixels is None:
        return np.full((frame.height, frame.width, 3), _GREY, np.uint8)
    if pixels.shape[:2] != (frame.height, frame.width):
        pixels = np.asarray(cv2.resize(pixels, (frame.width, frame.height), interpolation=cv2.INTER_AREA))
    return _colour(pixels)


def _colour(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)) if pixels.ndim == 2 else pixels
