"""The keys of ``sync``: how frames of the two sources are paired."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fusepipe.config.base import ConfigModel
from fusepipe.core.frames import Band
from fusepipe.core.units import MS, DurationNs, SignedDurationNs


class SyncConfig(ConfigModel):
    """How frames of the two sources are paired."""

    reference: Band = Field(
        default=Band.VISIBLE, description="The camera that sets the pace: one output frame for each of its frames."
    )
    pair_by: Literal["auto", "name", "time"] = Field(
        default="auto",
        description="name pairs the images of two folders by stem, time pairs by capture time, that of images being in "
        "their names (2024-05-01_12-30-15.250, UNIX times) or EXIF, else their order; auto is name for two image "
        "folders with common stems.",
    )
    tolerance_ns: DurationNs = Field(
        default=20 * MS,
        validation_alias="tolerance",
        description="Largest difference between the capture times of a pair.",
    )
    max_wait_ns: DurationNs = Field(
        default=60 * MS,
        validation_alias="max_wait",
        description="How long a frame waits for its partner before on_missing applies.",
    )
    offset_ns: SignedDurationNs = Field(
        default=0,
        validation_alias="offset",
        description="Added to the capture times of the infrared camera; may be negative.",
    )
    on_missing: Literal["hold", "drop", "single"] = Field(
        default="hold",
        description="What to do with a frame without a partner: hold reuses the last frame of the other camera, drop "
        "outputs nothing, single outputs the one image.",
    )
    max_hold_ns: DurationNs = Field(
        default=2_500 * MS,
        validation_alias="max_hold",
        description="Largest age of a held frame; after that the pair is single. A camera that repeats one image for "
        "longer than this counts as not connected. The default covers flat-field corrections of thermal cameras.",
    )
