"""The keys of ``repair``: what is wrong with a thermal sensor, and how it is corrected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fusepipe.config.base import ConfigModel, NotBool
from fusepipe.config.locations import check_text

_Coordinate = Annotated[int, Field(ge=0, le=65535), NotBool]


class RepairConfig(ConfigModel):
    """Corrections of the infrared camera's counts, before registration and gain control."""

    dead_pixels: Literal["auto", "off"] | tuple[tuple[_Coordinate, _Coordinate], ...] = Field(
        default="off",
        description="Dead pixels, which are filled from their neighbours: a list of their [x, y] after crop, rotate "
        "and flip, or auto, which finds those that stand out of their neighbours in image after image.",
    )
    stripes: Literal["off", "columns", "rows", "both"] = Field(
        default="off", description="Removes the fixed stripes of a sensor's columns or rows, estimated over time."
    )
    shading: Annotated[str, AfterValidator(check_text)] | None = Field(
        default=None,
        description="An infrared image of a plain surface before the lens, relative to this file: how its brightness "
        "changes over the image is subtracted from all images.",
    )
