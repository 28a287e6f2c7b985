"""Effects of cameras and rigs as augmentation of training crops: pure functions of an image and a random generator.

Crops are HxW float32 in [0, 1]. A pair is changed in two steps: first what both the network and the loss see (levels,
polarity, darkness), then what only the network sees (blur, noise, misregistration), so that it learns to fuse the scene
rather than the sensors' artefacts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Image = NDArray[np.float32]
Share = Annotated[float, Field(ge=0, le=1)]


class CameraEffects(BaseModel):
    """Random changes of a crop; 0 disables a change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gain: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Each band's contrast is scaled by 1 - gain .. 1 + gain around its mean, in half of the crops."""
    offset: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Each band's brightness is shifted by -offset .. +offset (of the full range), in the same crops."""
    low_light: Share = 0.1
    """Share of crops whose visible band is darkened to 10 .. 50 % of its light."""
    swap: Share = 0.5
    """Share of crops whose bands are exchanged: every term of the loss treats both alike."""
    invert: Share = 0.3
    """Share of crops, each band separately, that are inverted: other scenes have other polarities."""
    same: Share = 0.1
    """Share of crops in which both bands are the same image, which the network should return unchanged."""
    flat: Share = 0.02
    """Share of crops in which one band is flat, as of a covered or saturated camera."""
    blur_px: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Largest standard deviation of a Gaussian blur that the network sees, each band separately."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest standard deviation of Gaussian noise that the network sees (of the full range), each band separately."""
    shift_px: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Largest displacement at the corners of the infrared band that the network sees: shift, turn and scale."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenPair:
    """A pair as the network sees it, and as the loss takes it; all HxW float32 in [0, 1]."""

    infrared: Image
    visible: Image
    infrared_target: Image
    visible_target: Image


def cut(image: NDArray[np.uint8], crop_px: int, at: tuple[float, float]) -> Image:
    """A square of an HxW uint8 image as float32 in [0, 1]; ``at`` is its relative position, each in [0, 1).

    An image smaller than the crop is reflected at its edges until it fits.
    """
    missing = [max(0, crop_px - side) for side in image.shape]
    if any(missing):
        above, left = missing[0] // 2, missing[1] // 2
        reflect = cv2.BORDER_REFLECT  # also where the border is wider than the image
        image = np.asarray(
            cv2.copyMakeBorder(image, above, missing[0] - above, left, missing[1] - left, reflect), np.uint8
        )
    top, left = (int(part * (side - crop_px + 1)) for part, side in zip(at, image.shape, strict=True))
    return image[top : top + crop_px, left : left + crop_px].astype(np.float32) / np.float32(255)


def turned(image: NDArray[np.float32], way: int) -> NDArray[np.float32]:
    """One of the eight flips and quarter turns of ``... x H x W``, ``way`` in 0..7."""
    if way & 1:
        image = image[..., ::-1]
    if way & 2:
        image = image[..., ::-1, :]
    return image.swapaxes(-1, -2) if way & 4 else image


def change_levels(bands: NDArray[np.float32], options: CameraEffects, rng: np.random.Generator) -> NDArray[np.float32]:
    """Polarity, contrast and brightness of ``B x H x W``, each band separately; the result is in [0, 1]."""
    count = len(bands)
    negative = rng.random((count, 1, 1)) < options.invert
    bands = np.where(negative, 1 - bands, bands)
    changed, gain, offset = rng.random(), *rng.uniform(-1, 1, (2, count, 1, 1))
    if changed < 0.5:
        mean = bands.mean(axis=(1, 2), keepdims=True)
        bands = mean + (1 + options.gain * gain) * (bands - mean) + options.offset * offset
    return np.asarray(bands.clip(0, 1), np.float32)


def displaced(image: Image, most_px: float, rng: np.random.Generator) -> Image:
    """The image shifted, turned and scaled so that no corner moves further than about ``most_px``."""
    height, width = image.shape
    dx, dy, turn, scale = rng.uniform(-0.5, 0.5, 4) * most_px
    reach = max(height, width) / 2
    # a third each, so that the corners' displacements add up to the maximum
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), np.degrees(turn / reach) / 2, 1 + scale / reach / 2
    )
    matrix[:, 2] += dx, dy
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.float32)


def sensed(image: Image, most_blur_px: float, most_noise: float, rng: np.random.Generator) -> Image:
    """The image with sensor effects: blur and noise of random strength up to the given maxima."""
    blur, noise = most_blur_px * rng.random(), most_noise * rng.random()
    if blur > 0.2:  # less has no effect at this sampling
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.float32)
    if noise:
        image = image + noise * rng.standard_normal(image.shape, np.float32)
    return np.asarray(image.clip(0, 1), np.float32)


def grained(image: Image, most: float, rng: np.random.Generator) -> Image:
    """The image with Gaussian noise of a deviation up to ``most``, fine or (as of old tubes and codecs) coarse.

    Not clipped to [0, 1].
    """
    grain, size_px = rng.standard_normal(image.shape, np.float32), rng.uniform(0.0, 1.0)
    if size_px > 0.3:  # less has no effect at this sampling
        grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), size_px), np.float32)
    return np.asarray(image + grain * np.float32(most * rng.random() / max(float(grain.std()), 1e-6)), np.float32)


def change_photograph(image: Image, options: CameraEffects, rng: np.random.Generator) -> Image:
    """A photograph's crop flipped and with changed levels: input and target of an auto-encoder."""
    (changed,) = change_levels(turned(image, int(rng.integers(8)))[None], options, rng)
    if rng.random() < options.low_light:
        changed = changed * np.float32(rng.uniform(0.1, 0.5))
    return np.ascontiguousarray(changed)


def change_pair(infrared: Image, visible: Image, options: CameraEffects, rng: np.random.Generator) -> SeenPair:
    """A pair of crops as the network sees it and as the loss takes it."""
    bands = turned(np.stack((infrared, visible)), int(rng.integers(8)))
    bands = change_levels(bands, options, rng)
    if rng.random() < options.low_light:
        bands[1] *= np.float32(rng.uniform(0.1, 0.5))
    if rng.random() < options.swap:
        bands = bands[::-1]
    if rng.random() < options.same:
        bands = np.stack((bands[0], bands[0]) if rng.random() < 0.5 else (bands[1], bands[1]))
    elif rng.random() < options.flat:
        bands = bands.copy()
        bands[int(rng.integers(2))] = rng.choice((0.0, rng.random(), 1.0))
    first, second = np.ascontiguousarray(bands[0]), np.ascontiguousarray(bands[1])
    seen = displaced(first, options.shift_px, rng) if options.shift_px else first
    infrared = sensed(seen, options.blur_px, options.noise, rng)
    return SeenPair(infrared, sensed(second, options.blur_px, options.noise, rng), first, second)
