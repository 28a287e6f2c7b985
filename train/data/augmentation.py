"""Options of the random changes of a student's training crop."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


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
    band by itself: the network and the loss see it, as the metrics of noisy cameras' pictures do."""
    blur_px: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Largest standard deviation of a Gaussian blur that the network sees, each band by itself."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest standard deviation of Gaussian noise that the network sees (of the full range), each band by itself."""
    shift_px: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Largest displacement at the corners of the infrared band that the network sees: shift, turn and scale."""
    swap: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of crops whose bands are exchanged: every term of the loss treats both alike."""
    invert: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of crops, each band by itself, turned into the negative: other scenes have other polarities."""
    same: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Share of crops in which both bands are the same image, which shall come back unchanged."""
    flat: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of crops in which one band is flat, as of a covered or saturated camera."""
