"""The keys of ``sync``: how frames of the two sources are paired."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fusepipe.config.base import ConfigModel
from fusepipe.core.frames import Band
from fusepipe.core.units import DURATION_SHAPES, MS, DurationNs, SignedDurationNs


def _without_auto(value: Any) -> Any:
    return None if value == "auto" else value


# None: measured
AutoDurationNs = Annotated[
    DurationNs | None, BeforeValidator(_without_auto), WithJsonSchema({"anyOf": [{"const": "auto"}, *DURATION_SHAPES]})
]


def keys_of_sync(section: Any) -> Any:
    """The keys of the section ``sync``, none for ``auto``; values of any other type are left to validation."""
    return {} if section == "auto" else section


class SyncConfig(ConfigModel):
    """How frames of the two sources are paired; ``auto`` in place of the keys is the default of each of them."""

    reference: Band = Field(
        default=Band.VISIBLE, description="The camera that sets the pace: one output frame for each of its frames."
    )
    pair_by: Literal["auto", "name", "order", "time"] = Field(
        default="auto",
        description="name pairs the images of two folders by stem, also where stems differ by a word for the camera or "
        "a common beginning or end (001_ir and 001_vis); order pairs the first with the first; time pairs by capture "
        "time, that of images being in their names (2024-05-01_12-30-15.250, UNIX times) or EXIF, else their order; "
        "auto is name for two image folders whose stems match, else time.",
    )
    tolerance_ns: AutoDurationNs = Field(
        default=None,
        validation_alias="tolerance",
        description="Largest difference between the capture times of a pair; auto, the default, follows the measured "
        "frame rates of live cameras (half the frame interval of the other camera and its jitter, at most 100ms), and "
        "is 20ms for recordings.",
    )
    max_wait_ns: AutoDurationNs = Field(
        default=None,
        validation_alias="max_wait",
        description="How long a frame of a live camera waits for its partner before on_missing applies; auto, the "
        "default, follows the measured frame rates and delays, at most 1s.",
    )
    offset_ns: SignedDurationNs = Field(
        default=0,
        validation_alias="offset",
        description="Added to the capture times of the infrared camera; may be negative.",
    )
    on_missing: Literal["hold", "interpolate", "drop", "single"] = Field(
        default="hold",
        description="What to do with a frame without a partner: hold reuses the last frame of the other camera, drop "
        "outputs nothing, single outputs the one image. interpolate, of recordings only, computes the infrared image "
        "from those before and after it, along their motion; it is a guess, and the state of such pairs says so.",
    )
    max_hold_ns: DurationNs = Field(
        default=2_500 * MS,
        validation_alias="max_hold",
        description="Largest age of a held frame; after that the pair is single. A camera that repeats one image for "
        "longer than this counts as not connected. The default covers flat-field corrections of thermal cameras.",
    )

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, data: Any) -> Any:
        return keys_of_sync(data)
