"""The keys of ``telemetry``: the rows that a thermal core adds to its image."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fusepipe.config.base import ConfigModel, NotBool


class TelemetryConfig(ConfigModel):
    """Telemetry rows of the infrared camera; one word in place of the keys is the camera."""

    camera: Literal["lepton", "boson", "other"] = Field(
        description="The core whose rows they are: those of lepton and boson are read and cut off, those of other ones "
        "only cut off."
    )
    rows: Annotated[int, Field(ge=1, le=64), NotBool] | None = Field(
        default=None,
        description="How many rows; default: 2, and 3 of a Lepton of 80 pixels. Those of another camera need it.",
    )
    position: Literal["above", "below"] | None = Field(
        default=None,
        description="Whether they are above or below the image; default: above of a boson, else below.",
    )

    @property
    def above(self) -> bool:
        """Whether the rows are above the image."""
        return (self.position or ("above" if self.camera == "boson" else "below")) == "above"

    @model_validator(mode="after")
    def _rows_of_another_camera(self) -> Self:
        if self.camera == "other" and self.rows is None:
            raise ValueError("camera: other needs rows: how many telemetry rows its image has")
        return self


def _keys_of_telemetry(value: Any) -> Any:
    return {"camera": value} if isinstance(value, str) else value


TelemetrySection = Annotated[TelemetryConfig | None, BeforeValidator(_keys_of_telemetry)]
