"""Random changes of a training crop of a student: their options, and a pure function that applies them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusepipe.train.data.camera import displaced, grained, sensed


class Augmentation(BaseModel):
    """Random changes of a training crop."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gain: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Each band's contrast is scaled by 1 - gain .. 1 + gain around its mean, in half of the crops."""
    offset: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Each band's brightness is shifted by -offset .. +offset (of the full range), in the same crops."""
    tone: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Largest change of tone: half of the bands are raised to a power of exp(-tone) .. exp(tone)."""
    zoom: Annotated[float, Field(ge=0, le=2)] = 0.0
    """A crop is exp(-zoom) .. exp(zoom) times as wide in the scene: other cameras resolve other detail."""
    low_light: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of crops whose visible band is darkened to 10 .. 50 % of its light."""
    grain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest standard deviation of noise that is part of the images (of the full range), in half of the crops, each
    band separately: the network and the loss see it, as the metrics do with noisy cameras."""
    blur_px: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Largest standard deviation of a Gaussian blur that the network sees, each band separately."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest standard deviation of Gaussian noise that the network sees (of the full range), each band separately."""
    shift_px: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Largest displacement at the corners of the infrared band that the network sees: shift, turn and scale."""
    swap: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of crops whose bands are exchanged: every term of the loss treats both alike."""
    invert: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of crops, each band separately, that are inverted: other scenes have other polarities."""
    same: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Share of crops in which both bands are the same image, which the network should return unchanged."""
    flat: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of crops in which one band is flat, as of a covered or saturated camera."""


def augmented(bands: NDArray[np.float32], options: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """A crop with random changes: infrared and visible (2 x C x C in [0, 1]) to 4 x C x C.

    The first two are what the network sees, the last two what the loss takes.
    """
    both = _exchanged(_flipped(bands, rng), options, rng)
    both = _degenerate(_toned(both, options, rng), options, rng)
    targets = np.ascontiguousarray(both.clip(0.0, 1.0), dtype=np.float32)
    if not (options.blur_px or options.noise or options.shift_px):
        return np.concatenate((targets, targets))
    moved = displaced(targets[0], options.shift_px, rng), targets[1]
    return np.stack((*(sensed(band, options.blur_px, options.noise, rng) for band in moved), *targets))


def _flipped(both: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One of the eight flips and quarter turns."""
    if rng.random() < 0.5:
        both = both[:, :, ::-1]
    if rng.random() < 0.5:
        both = both[:, ::-1]
    return both.transpose(0, 2, 1) if rng.random() < 0.5 else both


def _exchanged(both: NDArray[np.float32], options: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """The bands swapped, or inverted one by one."""
    if options.swap and rng.random() < options.swap:
        both = both[::-1]
    if options.invert:
        inverted = rng.random(size=(2, 1, 1)) < options.invert
        both = np.where(inverted, 1 - both, both)
    return both


def _toned(both: NDArray[np.float32], options: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Tone, contrast, brightness, darkness and grain."""
    if options.tone:
        power = np.exp(options.tone * rng.uniform(-1, 1, size=(2, 1, 1)) * (rng.random(size=(2, 1, 1)) < 0.5))
        both = both**power
    if rng.random() < 0.5:
        gain = 1 + options.gain * rng.uniform(-1, 1, size=(2, 1, 1))
        offset = options.offset * rng.uniform(-1, 1, size=(2, 1, 1))
        mean = both.mean(axis=(1, 2), keepdims=True)
        both = mean + gain * (both - mean) + offset
    if options.low_light and rng.random() < options.low_light:
        both = both * np.array((1.0, rng.uniform(0.1, 0.5)))[:, None, None]
    if options.grain and rng.random() < 0.5:
        both = np.stack([grained(band, options.grain, rng) for band in both])
    return both


def _degenerate(both: NDArray[np.float32], options: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Both bands the same image, or one of them flat."""
    if rng.random() < options.same:
        both = np.stack((both[0], both[0]) if rng.random() < 0.5 else (both[1], both[1]))
    if rng.random() < options.flat:
        both = both.copy()
        both[int(rng.integers(2))] = rng.choice((0.0, rng.random(), 1.0))
    return both
