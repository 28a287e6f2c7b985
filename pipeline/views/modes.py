"""The modes of a view: how its panels become one image. Pure; panels of one call have the same size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.planes import Luma8
from fusepipe.pipeline.views.panels import NEUTRAL, Panel, PlaneFormat, resized

INSET = 1 / 3  # width of the inset, as a share of the width of the image
EDGE_GAIN = 1.4
EDGE_CORE = 3  # levels of visible detail that are taken for noise
EDGE_LIMIT = 64  # of visible detail: a lamp is not to hide what is warm
EDGE_WIDTH_PX = 320  # detail is what is finer than a pixel of an image this wide, an ordinary thermal one
DOMINANCE_FLOOR = 12  # levels by which the bands differ at least before colour is taken away


def beside(left: Panel, right: Panel) -> Panel:
    """Of an odd width the last column is left out: chroma has half as many."""
    width = left.luma.shape[1] // 2 * 2
    luma = cv2.hconcat([left.luma[:, :width], right.luma[:, :width]])
    chroma = None
    if left.chroma is not None or right.chroma is not None:
        cb, cr = (
            np.asarray(cv2.hconcat([one[:, : width // 2], other[:, : width // 2]]), np.uint8)
            for one, other in zip(left.coloured(), right.coloured(), strict=True)
        )
        chroma = cb, cr
    return Panel(np.asarray(luma, np.uint8), chroma)


def wiped(left: Panel, right: Panel, share: float, form: PlaneFormat) -> Panel:
    """``left`` up to ``share`` of the width, with a white line, then ``right``."""
    width = left.luma.shape[1]
    edge = min(round(min(max(share, 0.0), 1.0) * width / 2) * 2, width)
    luma = left.luma.copy()
    luma[:, edge:] = right.luma[:, edge:]
    luma[:, max(0, edge - 1) : edge + 1] = form.level(255)
    if left.chroma is None and right.chroma is None:
        return Panel(luma)
    cb, cr = (chroma.copy() for chroma in left.coloured())
    for chroma, other in zip((cb, cr), right.coloured(), strict=True):
        chroma[:, edge // 2 :] = other[:, edge // 2 :]
    return Panel(luma, (cb, cr))


def picture_in_picture(base: Panel, inset: Panel, form: PlaneFormat) -> Panel:
    """``inset`` in the lower right corner of ``base``, a third as wide, in a white frame."""
    height, width = base.luma.shape
    size = (max(2, round(width * INSET / 2) * 2), max(2, round(height * INSET / 2) * 2))
    margin = max(2, round(width / 40) // 2 * 2)
    left, top = ((whole - part - margin) // 2 * 2 for whole, part in ((width, size[0]), (height, size[1])))
    left, top = max(0, left), max(0, top)
    luma = base.luma.copy()
    border = max(1, round(height / 240))
    luma[max(0, top - border) : top + size[1] + border, max(0, left - border) : left + size[0] + border] = form.level(
        255
    )
    luma[top : top + size[1], left : left + size[0]] = resized(inset.luma, size)
    if base.chroma is None and inset.chroma is None:
        return Panel(luma)
    cb, cr = (chroma.copy() for chroma in base.coloured())
    half = (size[0] // 2, size[1] // 2)
    for chroma, other in zip((cb, cr), inset.coloured(), strict=True):
        chroma[top // 2 : top // 2 + half[1], left // 2 : left // 2 + half[0]] = resized(other, half)
    return Panel(luma, (cb, cr))


def overlaid(visible: Panel, infrared: Panel) -> Panel:
    """The grey visible image and the infrared one in false colours, half of each."""
    luma = np.asarray(cv2.addWeighted(visible.luma, 0.5, infrared.luma, 0.5, 0), np.uint8)
    if infrared.chroma is None:
        return Panel(luma)
    cb, cr = (np.asarray(cv2.addWeighted(c, 0.5, c, 0, NEUTRAL / 2), np.uint8) for c in infrared.chroma)
    return Panel(luma, (cb, cr))


def edges_on_thermal(infrared: Panel, visible: Luma8) -> Panel:
    """The infrared image with the fine detail of the visible luma added to its luma.

    The visible luma less its low-pass, without what is no stronger than noise, is added to the luma of the false
    colours (K. Strandemar, US patent 8,565,547 B2, "Infrared resolution and contrast enhancement with fusion").
    """
    sigma_px = max(1.0, visible.shape[1] / EDGE_WIDTH_PX)
    smooth = cv2.GaussianBlur(visible, (0, 0), sigma_px)
    detail = np.asarray(cv2.addWeighted(visible, 1, smooth, -1, NEUTRAL), np.uint8)
    added = cv2.LUT(detail, _edge_table())
    return Panel(np.asarray(cv2.add(infrared.luma, added, dtype=cv2.CV_8U), np.uint8), infrared.chroma)


def _edge_table() -> NDArray[np.int16]:
    """256 entries: detail around 128 to levels that are added, 0 for noise."""
    detail = np.arange(256) - NEUTRAL
    strong = np.sign(detail) * np.maximum(np.abs(detail) - EDGE_CORE, 0) * EDGE_GAIN
    return np.asarray(np.clip(strong, -EDGE_LIMIT, EDGE_LIMIT).round(), np.int16)


def desaturated(fused: Panel, visible: Luma8, infrared: Luma8) -> Panel:
    """The fused image without visible colours where the fused luma follows the infrared image.

    ``visible`` and ``infrared`` are HxW luma in the value range of ``fused``. What is kept of a colour is the share of
    the infrared difference in both, abs(F - I) / (abs(F - V) + abs(F - I)), of means around a chroma sample.
    """
    if fused.chroma is None:
        return fused
    size = (fused.chroma[0].shape[1], fused.chroma[0].shape[0])
    to_visible, to_infrared = (
        cv2.blur(resized(np.asarray(cv2.absdiff(fused.luma, band), np.uint8), size), (5, 5)).astype(np.float32)
        for band in (visible, infrared)
    )
    share = (to_infrared + DOMINANCE_FLOOR / 2) / (to_visible + to_infrared + DOMINANCE_FLOOR / 2)
    kept = np.clip(2 * share, 0, 1)  # colour begins to fade where the infrared image has half the say
    cb, cr = (
        np.asarray(((chroma.astype(np.float32) - NEUTRAL) * kept + NEUTRAL).round(), np.uint8)
        for chroma in fused.chroma
    )
    return Panel(fused.luma, (cb, cr))
