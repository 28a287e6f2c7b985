"""``view`` of a sink: what the output shows of each fused pair."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fusepipe.config.base import ConfigModel, NotBool
from fusepipe.core.units import MS, PositiveDurationNs, TemperatureK
from fusepipe.core.view_settings import (
    AnnotationSettings,
    HotSettings,
    HotStyle,
    Inset,
    Palette,
    TemperatureUnit,
    ViewColour,
    ViewMode,
    ViewSettings,
)


class HotConfig(ConfigModel):
    """Which areas a view marks as hot, and how."""

    above_k: TemperatureK | None = Field(
        default=None,
        validation_alias="above",
        description="Marks what is at least this hot, such as 60C, 333K or 140F; the infrared camera needs a "
        "radiometry.",
    )
    percentile: Annotated[float, Field(ge=50, lt=100), NotBool] = Field(
        default=99.0,
        description="Marks what is hotter than this share of the infrared image, in percent; 99 is the hottest "
        "hundredth. Not together with above.",
    )
    style: HotStyle = Field(
        default="outline",
        description="outline draws a line around hot areas; tint colours them and leaves their brightness as it is.",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.above_k is not None and "percentile" in self.model_fields_set:
            raise ValueError("has both above and percentile: keep one")
        return self


_Share = Annotated[float, Field(ge=0, le=1), NotBool]


class AnnotationsConfig(ConfigModel):
    """What is written into the image. Positions are shares of the frame's width and height, from 0 to 1."""

    time: Literal["off", "on"] = Field(
        default="off", description="The time of capture: UTC of live cameras, since the start of recordings."
    )
    state: Literal["off", "on"] = Field(default="off", description="FUSED, HELD, SINGLE or NO SIGNAL.")
    hottest: Literal["off", "on"] = Field(default="off", description="A cross at the hottest pixel, with its value.")
    spots: Annotated[tuple[tuple[_Share, _Share], ...], Field(max_length=16)] = Field(
        default=(), description="Crosses at [x, y], each with its temperature, or its count without a radiometry."
    )
    boxes: Annotated[tuple[tuple[_Share, _Share, _Share, _Share], ...], Field(max_length=16)] = Field(
        default=(), description="Rectangles [x, y, width, height], each with its lowest, mean and highest temperature."
    )
    scale_bar: Literal["off", "on"] = Field(
        default="off", description="The palette of infrared images with the temperatures of its colours."
    )
    unit: TemperatureUnit = Field(default="celsius", description="The unit of temperatures.")

    @model_validator(mode="after")
    def _boxes_in_the_frame(self) -> Self:
        for x, y, width, height in self.boxes:
            if min(width, height) <= 0 or max(x + width, y + height) > 1:
                raise ValueError("boxes should be [x, y, width, height] within the frame, such as [0.4, 0.4, 0.2, 0.2]")
        return self

    def settings(self) -> AnnotationSettings:
        """The settings for the pipeline."""
        return AnnotationSettings(
            time=self.time == "on",
            state=self.state == "on",
            hottest=self.hottest == "on",
            spots=self.spots,
            boxes=self.boxes,
            scale_bar=self.scale_bar == "on",
            unit=self.unit,
        )


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("should be different temperatures, the lowest first")
    return values


class ViewConfig(ConfigModel):
    """What an output shows: by default the fused image, unchanged. A preview page starts with it."""

    mode: ViewMode = Field(
        default="fused",
        description="One camera, or a comparison of both; overlay mixes the grey visible image with the infrared one "
        "in false colours, edges-on-thermal adds the edges of the visible image to the infrared one.",
    )
    palette: Palette = Field(
        default="auto",
        description="The colours of infrared images; auto is white-hot, and inferno in the modes overlay and "
        "edges-on-thermal. rainbow exaggerates small differences.",
    )
    colour: ViewColour = Field(
        default="visible",
        description="desaturate fades the visible camera's colours where the fused image shows what the infrared "
        "camera sees.",
    )
    inset: Inset = Field(default="infrared", description="The small image of the mode picture-in-picture.")
    wipe: Annotated[float, Field(ge=0, le=1), NotBool] = Field(
        default=0.5, description="Mode wipe: the share of the width that shows the visible image, on the left."
    )
    blink_ns: PositiveDurationNs = Field(
        default=500 * MS, validation_alias="blink", description="Mode blink: how long each camera is shown."
    )

    hot: HotConfig | None = Field(default=None, description="Marks hot areas; default: none are marked.")
    isotherms_k: Annotated[tuple[TemperatureK, ...], Field(max_length=7), AfterValidator(_rising)] = Field(
        default=(),
        validation_alias="isotherms",
        description="Temperatures at which lines are drawn, such as [30C, 60C]; the infrared camera needs a "
        "radiometry.",
    )

    annotations: AnnotationsConfig = Field(
        default=AnnotationsConfig(), description="What is written into the image; by default nothing."
    )

    def settings(self) -> ViewSettings:
        """The settings for the pipeline."""
        hot = None if self.hot is None else HotSettings(self.hot.above_k, self.hot.percentile, self.hot.style)
        return ViewSettings(
            self.mode,
            self.palette,
            self.colour,
            self.inset,
            self.wipe,
            self.blink_ns,
            hot,
            self.isotherms_k,
            self.annotations.settings(),
        )
