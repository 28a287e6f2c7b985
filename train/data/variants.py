"""A registered pair as another camera, scene or hour would have shown it: changes of whole images.

The teacher fuses the changed pair, so that its image fits what the network sees.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8

VERSION = 1
"""Incremented with each change of :func:`variant` or :func:`flat`, so that kept images are made again."""

_INVERTED = 0.25  # share of thermal images in the other polarity
_FLAT, _GAIN = 0.4, 0.3  # shares of thermal images with flat contrast, and with a jump of gain
_BLURRED = 0.4  # share of thermal images that look like enlarged ones
_BORDERED = 0.15  # share of thermal images with black borders, as registered ones have
_DARK, _BRIGHT, _FOG = 0.3, 0.2, 0.15  # shares of visible images
_FLAT_SPREAD = 8 / 255, 35 / 255  # standard deviation of flat thermal images
_LEAST_SPREAD = 1 / 255  # images with less are not stretched: noise would become their content
_MEDIUM, _LOW, _OFTEN_MEDIUM = (0.24, 0.67), (0.06, 0.24), 0.7  # their means, and the share of medium ones
_WIDEST_BORDER = 25  # a border is at most this part of the width, a vertical one too


def variant(infrared: Luma8, visible: Luma8, name: str) -> tuple[Luma8, Luma8]:
    """HxW uint8 images with random changes, which depend on the pair's ``name`` only.

    Infrared: polarity, flat contrast or a jump of gain, blur, black borders. Visible: darkness, a steeper tone curve
    or fog.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return _bytes(_thermal(_unit(infrared), rng)), _bytes(_daylight(_unit(visible), rng))


def flat(infrared: Luma8, name: str) -> Luma8:
    """The infrared image (HxW uint8) as a camera with a wide range shows a scene of one temperature.

    Its standard deviation becomes 8 to 35 grey levels around a medium or a dark one, which depend on ``name`` only.
    """
    rng = np.random.default_rng(zlib.crc32(f"flat {name}".encode()))
    level = rng.uniform(*_MEDIUM if rng.random() < _OFTEN_MEDIUM else _LOW)
    image = _unit(infrared)
    return _bytes(level + rng.uniform(*_FLAT_SPREAD) / max(float(image.std()), _LEAST_SPREAD) * (image - image.mean()))


def half(image: Luma8) -> Luma8:
    """The image at half its size (area means); sides of two or more."""
    size = image.shape[1] // 2, image.shape[0] // 2
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _thermal(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if rng.random() < _INVERTED:
        image = 1 - image
    kind, mean = rng.random(), image.mean()
    if kind < _FLAT:
        image = mean + rng.uniform(0.25, 0.6) * (image - mean) + rng.uniform(-0.05, 0.1)
    elif kind < _FLAT + _GAIN:
        image = mean + rng.uniform(0.8, 1.5) * (image - mean) + rng.uniform(-0.15, 0.15)
    if rng.random() < _BLURRED:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.8)))
    if rng.random() < _BORDERED:
        height, width = image.shape
        top, bottom, left, right = rng.integers(0, max(3, width // _WIDEST_BORDER), 4)
        inside = np.zeros_like(image)
        inside[top : height - bottom, left : width - right] = 1
        image = image * inside
    return image


def _daylight(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    kind = rng.random()
    if kind < _DARK:
        return image * rng.uniform(0.15, 0.55)
    if kind < _DARK + _BRIGHT:
        return np.asarray(image ** rng.uniform(0.6, 0.9))
    if kind < _DARK + _BRIGHT + _FOG:
        mean = image.mean()
        return np.asarray(mean + rng.uniform(0.3, 0.6) * (image - mean) + rng.uniform(0, 0.15))
    return image


def _unit(image: Luma8) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(255)


def _bytes(image: NDArray[np.float32]) -> Luma8:
    return np.asarray((image.clip(0, 1) * 255).round(), np.uint8)
