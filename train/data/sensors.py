"""What sensors and codecs add to a student's crop: options, and a pure function that applies them."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusepipe.train.data.camera_effects import grained

_QUALITIES = (15, 60)  # of JPEG: artefacts from strong to hardly visible
_COMPRESSED = 0.7  # share of the bands of a crop with artefacts


class Sensors(BaseModel):
    """What sensors and codecs add to a crop; the network sees it, the loss does not."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: Annotated[float, Field(ge=0, lt=1)] = 0.008
    """Largest standard deviation of noise (of the full range), each band separately, fine or coarse."""
    jpeg: Annotated[float, Field(ge=0, le=1)] = 0.015
    """Share of crops with the artefacts of JPEG."""
    same: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of crops in which both bands are the same image, which the network should return unchanged."""


def seen(bands: NDArray[np.uint8], options: Sensors, rng: np.random.Generator) -> NDArray[np.float32]:
    """Infrared and visible (2 x H x W uint8) as the network sees them: float32, about [0, 1]."""
    if rng.random() < options.jpeg:
        bands = np.stack([_compressed(band, rng) for band in bands])
    unit = bands.astype(np.float32) / np.float32(255)
    return np.stack([grained(band, options.noise, rng) for band in unit]) if options.noise else unit


def _compressed(band: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() >= _COMPRESSED:
        return band
    _, data = cv2.imencode(".jpg", band, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_QUALITIES))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
