"""Renders the views of the preview from one fused frame, as JPEG and PNG."""

from __future__ import annotations

import cv2
import numpy as np

from fusepipe.core.frames import FusedFrame, Pixels
from fusepipe.core.image_files import to_bgr
from fusepipe.pipeline.views.output_view import OutputView

VIEWS = {  # modes and their labels on the page
    "fused": "Fused",
    "infrared": "Infrared",
    "visible": "Visible",
    "side-by-side": "Side by side",
    "picture-in-picture": "Inset",
    "wipe": "Wipe",
    "blink": "Blink",
    "overlay": "Overlay",
    "edges-on-thermal": "Edges",
}
NOTES = {  # annotations and their labels
    "time": "time",
    "state": "state",
    "hottest": "hottest point",
    "scale_bar": "scale bar",
    "spots": "spots and boxes",
}
MAX_WIDTH_PX = 1280  # sufficient for a preview, and bearable on a mobile link


def image(frame: FusedFrame, view: OutputView) -> Pixels:
    """HxWx3 uint8 (B, G, R), full range, or HxW where the view is grey."""
    return to_bgr(view(frame))


def jpeg(frame: FusedFrame, view: OutputView, *, quality: int = 80) -> bytes:
    """A view as JPEG, downscaled to ``MAX_WIDTH_PX``."""
    pixels = image(frame, view)
    height, width = pixels.shape[:2]
    if width > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, max(1, round(height * MAX_WIDTH_PX / width)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return _encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(frame: FusedFrame, view: OutputView) -> bytes:
    """A view as PNG, at full resolution."""
    return _encoded(".png", image(frame, view), [])


def _encoded(suffix: str, pixels: Pixels, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise ValueError(f"OpenCV cannot encode {pixels.shape} as {suffix}")
    return bytes(data.tobytes())
