"""The pictures of the HTML report: example pairs, zoomed patches and difference maps as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.report.results import Example, SetResult

MAX_WIDTH_PX = 800  # of an embedded picture; patches come from the full image
MAP_WIDTH_PX = 280
WEBP_QUALITY = 88
FULL_LEVELS = 64  # of difference: where the colours of a map end
PATCHES = ("a", "b")  # a: where infrared stands out, b: where the visible image has detail
SOURCES = {"ir": "infrared", "vis": "visible"}


@dataclass(frozen=True, slots=True)
class Box:
    """A square patch: left, top and side in pixels."""

    x: int
    y: int
    side: int

    def cut(self, image: Luma8) -> Luma8:
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


def salient_boxes(ir: Luma8, vis: Luma8) -> list[Box]:
    """One square where the infrared image stands out most, one where the visible one does, apart if possible.

    HxW uint8 sources. Standing out is the mean distance from the surroundings within the square, less half
    of the other source's: from wide ones in infrared (warm things), from close ones in the visible image
    (texture). Gives none for images under 24 pixels, whose patches say no more.
    """
    height, width = ir.shape
    side = max(16, min(height, width) // 5)
    if min(height, width) < 24:
        return []
    boxes: list[Box] = []
    for own, other, sigma in ((ir, vis, min(height, width) / 6), (vis, ir, side / 12)):
        strength = cv2.boxFilter(_contrast(own, sigma) - 0.5 * _contrast(other, sigma), cv2.CV_32F, (side, side))
        half = side // 2
        inside = strength[half : height - side + half + 1, half : width - side + half + 1].copy()
        for box in boxes:
            apart = side + half
            left, top = max(0, box.x - apart), max(0, box.y - apart)
            inside[top : box.y + apart, left : box.x + apart] = -np.inf
        _, _, _, (x, y) = cv2.minMaxLoc(np.where(np.isfinite(inside), inside, np.float32(-1e9)))
        boxes.append(Box(int(x), int(y), side))
    return boxes


def _contrast(image: Luma8, sigma: float) -> NDArray[np.float32]:
    pixels = image.astype(np.float32)
    contrast: NDArray[np.float32] = np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), sigma))
    return contrast


def picture_uri(luma: Luma8, max_width: int = MAX_WIDTH_PX) -> str:
    """A slightly compressed picture for looking at, reduced to ``max_width``."""
    return _uri(_reduced(luma, max_width), ".webp", [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])


def coloured_uri(pixels: NDArray[np.uint8], max_width: int = MAX_WIDTH_PX) -> str:
    """As :func:`picture_uri` for HxWx3 (B, G, R)."""
    return _uri(_reduced(pixels, max_width), ".webp", [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])


def exact_uri(pixels: NDArray[np.uint8]) -> str:
    """Every pixel as it is, for patches that are magnified."""
    return _uri(pixels, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def difference_uri(fused: Luma8, source: Luma8) -> str:
    """fused - source as colours: blue darker, white equal, red brighter than the source; full at 64 levels."""
    difference = _reduced(fused, MAP_WIDTH_PX).astype(np.int16) - _reduced(source, MAP_WIDTH_PX)
    return _uri(
        _SIGNED[np.clip(difference, -FULL_LEVELS, FULL_LEVELS) + FULL_LEVELS], ".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]
    )


def _signed_colours() -> NDArray[np.uint8]:
    """Colours (B, G, R) from blue over white to red, one a grey level of difference."""
    t = np.linspace(-1.0, 1.0, 2 * FULL_LEVELS + 1)
    strength = np.abs(t)[:, None]
    ends = np.where(t[:, None] < 0, np.array([[160.0, 74, 20]]), np.array([[38.0, 24, 178]]))
    colours: NDArray[np.uint8] = np.rint(245 + (ends - 245) * strength).astype(np.uint8)
    return colours


_SIGNED = _signed_colours()


def _reduced(luma: NDArray[np.uint8], max_width: int) -> NDArray[np.uint8]:
    height, width = luma.shape[:2]
    if width <= max_width:
        return luma
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def _uri(pixels: NDArray[np.uint8], suffix: str, options: Sequence[int]) -> str:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), list(options))
    if not done:
        raise ValueError(f"OpenCV cannot encode {pixels.shape} {pixels.dtype} as {suffix}")
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def gallery(result: SetResult, example: Example, key: str) -> str:
    """The pictures of one pair: sources and methods with their patches, then the difference maps."""
    boxes = salient_boxes(example.ir, example.vis)
    height, width = example.ir.shape
    tiles = [_tile(SOURCES[s], image, boxes, key, s) for s, image in (("ir", example.ir), ("vis", example.vis))]
    order = [method.name for method in result.methods if method.name in example.fused]
    tiles += [_tile(name, example.fused[name], boxes, key, name) for name in order]
    maps = [_maps(name, example) for name in order]
    attention = "".join(_attention(name, example.attention[name]) for name in order if name in example.attention)
    heading = f"{escape(result.name)} / {escape(example.image)}"
    reduced = f", shown {MAX_WIDTH_PX} wide" if width > MAX_WIDTH_PX else ""
    return f"""
<section class="pair" data-pair="{escape(key)}" data-label="{heading}">
<h4>{heading} <small>{width}×{height}{reduced}</small></h4>
<div class="tiles">{"".join(tiles)}</div>
<details open><summary>Difference maps</summary>
<p class="hint">Left: fused minus infrared. Right: fused minus visible. <span class="key blue"></span> darker,
<span class="key white"></span> equal, <span class="key red"></span> brighter than the source; colours are full at
±{FULL_LEVELS} grey levels.</p>
<div class="tiles maps">{"".join(maps)}</div></details>
{_ATTENTION_HEAD + attention + "</div></details>" if attention else ""}</section>"""


def _tile(label: str, image: Luma8, boxes: Sequence[Box], key: str, method: str) -> str:
    height, width = image.shape
    outlines = "".join(
        f'<i class="box {name}" style="left:{100 * box.x / width:.2f}%;top:{100 * box.y / height:.2f}%;'
        f'width:{100 * box.side / width:.2f}%;height:{100 * box.side / height:.2f}%"></i>'
        for name, box in zip(PATCHES, boxes, strict=False)
    )
    patches = "".join(
        f'<img class="patch {name}" alt="{escape(label)}, patch {name} magnified" src="{exact_uri(box.cut(image))}">'
        for name, box in zip(PATCHES, boxes, strict=False)
    )
    zoom = f'<div class="patches">{patches}</div>' if patches else ""
    return (
        f'<figure><div class="frame"><img class="picture" data-method="{escape(method)}" loading="lazy" '
        f'width="{width}" height="{height}" alt="{escape(label)}" src="{picture_uri(image)}">{outlines}</div>'
        f"{zoom}<figcaption>{escape(label)}</figcaption></figure>"
    )


_ATTENTION_HEAD = (
    '<details open><summary>Attention</summary><p class="hint">How much each source counts, mean over the feature '
    'maps: <span class="key red"></span> infrared more, <span class="key white"></span> both alike, '
    '<span class="key blue"></span> the visible image more. The shares at which the colours end are written below '
    'each map.</p><div class="tiles maps">'
)


def _attention(name: str, share: Luma8) -> str:
    """The map of one method, 255 where infrared alone counts; the colours end at the most that it leaves one half."""
    lean = _reduced(share, 2 * MAP_WIDTH_PX).astype(np.float32) - 127.5
    most = max(1.0, float(np.percentile(np.abs(lean), 99.5)))
    steps = np.rint(np.clip(lean / most, -1, 1) * FULL_LEVELS).astype(np.int16) + FULL_LEVELS
    uri = _uri(_SIGNED[steps], ".webp", [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    label, percent = escape(name), 100 * most / 255
    return (
        f'<figure><img class="map" loading="lazy" alt="attention of {label}" src="{uri}"><figcaption>{label}: '
        f"{50 - percent:.0f} to {50 + percent:.0f} % infrared</figcaption></figure>"
    )


def _maps(name: str, example: Example) -> str:
    images = "".join(
        f'<img loading="lazy" alt="{escape(name)} minus {label}" src="{difference_uri(example.fused[name], source)}">'
        for label, source in (("infrared", example.ir), ("visible", example.vis))
    )
    return f'<figure><div class="twins">{images}</div><figcaption>{escape(name)}</figcaption></figure>'
