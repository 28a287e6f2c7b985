"""``view`` of a sink: what the output shows of each fused pair."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fusepipe.config.base import ConfigModel, NotBool
from fusepipe.core.units import MS, PositiveDurationNs
from fusepipe.core.view_settings import Inset, Palette, ViewColour, ViewMode, ViewSettings


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

    def settings(self) -> ViewSettings:
        """The settings for the pipeline."""
        return ViewSettings(self.mode, self.palette, self.colour, self.inset, self.wipe, self.blink_ns)
