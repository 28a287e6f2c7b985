"""The keys of ``agc``: how infrared counts become luma."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fusepipe.config.base import ConfigModel, NotBool
from fusepipe.core.units import DurationNs, S

AGC_MODES = ("auto", "linear", "plateau", "local", "off")
MAX_ADAPT_NS = 600 * S

_Pixel = Annotated[int, Field(ge=0, le=65535), NotBool]
_Side = Annotated[int, Field(ge=1, le=65535), NotBool]
_Celsius = Annotated[float, Field(ge=-273, le=4000), NotBool]


def _rising_celsius(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("should be [low, high] with low below high")
    return value


class AgcConfig(ConfigModel):
    """Automatic gain control of the infrared camera; one word in place of the keys is the mode."""

    mode: Literal["auto", "linear", "plateau", "local", "off"] = Field(
        default="auto",
        description="linear maps the scene's counts linearly, with room for hot objects; plateau equalises the "
        "histogram within limits; local adds contrast to details; off maps the full range of the bit depth; auto is "
        "linear where the first image uses under half of that range, of 8-bit images under four fifths, else off.",
    )
    adapt_ns: DurationNs = Field(
        default=1 * S,
        validation_alias="adapt",
        le=MAX_ADAPT_NS,
        description="How fast it follows a scene that does not fit its levels any more, a time constant; otherwise the "
        "luma of most of the image changes by at most 1.5 levels a second. 0: each image on its own, which flickers.",
    )
    temperatures: Annotated[tuple[_Celsius, _Celsius], AfterValidator(_rising_celsius)] | None = Field(
        default=None,
        description="The temperatures [low, high] of black and white in degrees Celsius, fixed, of a camera whose "
        "counts have a radiometry; in place of the other keys.",
    )
    region: tuple[_Pixel, _Pixel, _Side, _Side] | None = Field(
        default=None,
        description="The part [x, y, width, height] of the infrared image that is measured, after crop, rotate and "
        "flip; without a sky, for example.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        others = self.model_fields_set - {"temperatures"}
        if self.temperatures is not None and others:
            raise ValueError(
                f"temperatures are fixed levels: remove {min(others).removesuffix('_ns')}, or temperatures"
            )
        return self


def _keys_of_agc(value: Any) -> Any:
    return {"mode": value} if isinstance(value, str) else value


AgcSection = Annotated[AgcConfig | None, BeforeValidator(_keys_of_agc)]
