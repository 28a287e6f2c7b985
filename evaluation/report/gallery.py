"""The images of the HTML report as data URIs: example pairs, magnified patches, difference and attention maps."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.report.results import Example, SetResult

MAX_WIDTH_PX = 800  # of an embedded image; patches come from the full image
MAP_WIDTH_PX = 280
WEBP_QUALITY, MAP_QUALITY = 88, 80
FULL_LEVELS = 64  # of difference: where the colour scale of a map ends
PATCHES = ("a", "b")  # a: strongest infrared contrast, b: strongest visible detail
SOURCES = {"ir": "infrared", "vis": "visible"}


@dataclass(frozen=True, slots=True)
class Patch:
    """A square patch: left, top and side in pixels."""

    x: int
    y: int
    side: int

    def cut(self, image: Luma8) -> Luma8:
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


def salient_patches(ir: Luma8, vis: Luma8) -> list[Patch]:
    """One square at the strongest infrared contrast, one at the strongest visible detail, without overlap if possible.

    HxW uint8 sources. Contrast is the mean difference from the surroundings within the square, minus half
    of the other source's: wide surroundings in infrared (warm objects), close ones in the visible image
    (texture). None for images under 24 pixels.
    """
    height, width = ir.shape
    side = max(16, min(height, width) // 5)
    if min(height, width) < 24:
        return []
    patches: list[Patch] = []
    for own, other, sigma in ((ir, vis, min(height, width) / 6), (vis, ir, side / 12)):
        strength = cv2.boxFilter(_contrast(own, sigma) - 0.5 * _contrast(other, sigma), cv2.CV_32F, (side, side))
        half = side // 2
        inside = strength[half : height - side + half + 1, half : width - side + half + 1].copy()
        for patch in patches:
            apart = side + half
            left, top = max(0, patch.x - apart), max(0, patch.y - apart)
            inside[top : patch.y + apart, left : patch.x + apart] = -np.inf
        _, _, _, (x, y) = cv2.minMaxLoc(np.where(np.isfinite(inside), inside, np.float32(-1e9)))
        patches.append(Patch(int(x), int(y), side))
    return patches


def _contrast(image: Luma8, sigma: float) -> NDArray[np.float32]:
    pixels = image.astype(np.float32)
    contrast: NDArray[np.float32] = np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), sigma))
    return contrast


def image_uri(pixels: NDArray[np.uint8], max_width: int = MAX_WIDTH_PX) -> str:
    """HxW or HxWx3 (B, G, R) for display: reduced to ``max_width``, slightly compressed."""
    return _webp_uri(_reduced(pixels, max_width))


def exact_uri(pixels: NDArray[np.uint8]) -> str:
    """Without loss, for patches that are magnified."""
    return _uri(pixels, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def difference_uri(fused: Luma8, source: Luma8) -> str:
    """fused - source as colours: blue darker, white equal, red brighter than the source; full at 64 levels."""
    difference = _reduced(fused, MAP_WIDTH_PX).astype(np.int16) - _reduced(source, MAP_WIDTH_PX)
    return _webp_uri(_SIGNED[np.clip(difference, -FULL_LEVELS, FULL_LEVELS) + FULL_LEVELS], MAP_QUALITY)


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


def _webp_uri(pixels: NDArray[np.uint8], quality: int = WEBP_QUALITY) -> str:
    return _uri(pixels, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def _uri(pixels: NDArray[np.uint8], suffix: str, options: Sequence[int]) -> str:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), list(options))
    if not done:
        raise ValueError(f"OpenCV cannot encode {pixels.shape} {pixels.dtype} as {suffix}")
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Outline:
    """A patch on the image it is cut from; all in percent of the image's width or height."""

    name: str
    left: str
    top: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of a gallery; ``patches`` maps the name of a patch to its data URI."""

    method: str
    label: str
    width: int
    height: int
    uri: str
    outlines: Sequence[Outline]
    patches: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """``low`` and ``high`` are the shares of infrared, in percent, at which the colour scale ends."""

    name: str
    uri: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of one pair: sources and methods with patches, difference maps, and attention where a method has it.

    ``differences`` maps a method to the data URIs of its difference from each source.
    """

    key: str
    label: str
    size: str
    tiles: Sequence[Tile]
    differences: Mapping[str, Mapping[str, str]]
    attention: Sequence[AttentionMap]
    full_levels: int = FULL_LEVELS


def gallery(result: SetResult, example: Example, key: str) -> Gallery:
    """What the report shows of one pair; ``key`` is unique on the page."""
    patches = salient_patches(example.ir, example.vis)
    height, width = example.ir.shape
    order = [method.name for method in result.methods if method.name in example.fused]
    tiles = [_tile("ir", SOURCES["ir"], example.ir, patches), _tile("vis", SOURCES["vis"], example.vis, patches)]
    tiles += [_tile(name, name, example.fused[name], patches) for name in order]
    sources = {"infrared": example.ir, "visible": example.vis}
    return Gallery(
        key,
        f"{result.name} / {example.image}",
        f"{width}×{height}" + (f", shown {MAX_WIDTH_PX} wide" if width > MAX_WIDTH_PX else ""),
        tiles,
        {name: {s: difference_uri(example.fused[name], image) for s, image in sources.items()} for name in order},
        [_attention(name, example.attention[name]) for name in order if name in example.attention],
    )


def _tile(method: str, label: str, image: Luma8, patches: Sequence[Patch]) -> Tile:
    height, width = image.shape
    outlines = [
        Outline(name, *(f"{100 * part:.2f}" for part in (b.x / width, b.y / height, b.side / width, b.side / height)))
        for name, b in zip(PATCHES, patches, strict=False)
    ]
    magnified = {name: exact_uri(patch.cut(image)) for name, patch in zip(PATCHES, patches, strict=False)}
    return Tile(method, label, width, height, image_uri(image), outlines, magnified)


def _attention(name: str, share: Luma8) -> AttentionMap:
    """``share`` is HxW uint8, 255 where only infrared counts; the colour scale ends at its largest deviation."""
    lean = _reduced(share, 2 * MAP_WIDTH_PX).astype(np.float32) - 127.5
    most = max(1.0, float(np.percentile(np.abs(lean), 99.5)))
    steps = np.rint(np.clip(lean / most, -1, 1) * FULL_LEVELS).astype(np.int16) + FULL_LEVELS
    percent = 100 * most / 255
    return AttentionMap(name, _webp_uri(_SIGNED[steps]), f"{50 - percent:.0f}", f"{50 + percent:.0f}")
