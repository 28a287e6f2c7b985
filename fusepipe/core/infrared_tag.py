"""The tag of an infrared recording: what a video file cannot say of its counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import get_args

from fusepipe.core.planes import Plane, ValueRange
from fusepipe.core.radiometry import Radiometry, radiometry_of_json

TAG = "FUSEPIPE_INFRARED"
VERSION = 1


@dataclass(frozen=True, slots=True)
class InfraredTag:
    """``bit_depth`` and ``value_range`` are those of the camera's luma; ``radiometry`` is what it measures, if known.

    ``origin_ns`` is the capture time at presentation time 0, on the timeline of the run; ``None`` for a live run, whose
    timeline is that of the machine's monotonic clock.
    """

    bit_depth: int
    value_range: ValueRange
    radiometry: Radiometry | None
    origin_ns: int | None

    def plane(self, plane: Plane) -> Plane:
        """A plane that was read from the recording, as the camera's source gave it. Raises ``ValueError``."""
        return Plane(plane.pixels, self.bit_depth, self.value_range, plane.device)

    def to_text(self) -> str:
        """One line of JSON; :func:`infrared_tag` reads it."""
        radiometry = None if self.radiometry is None else json.loads(self.radiometry.to_json())
        fields = {
            "version": VERSION,
            "bit_depth": self.bit_depth,
            "value_range": self.value_range,
            "origin_ns": self.origin_ns,
            "radiometry": radiometry,
        }
        return json.dumps(fields, separators=(",", ":"))


def infrared_tag(text: str) -> InfraredTag:
    """The tag that :meth:`InfraredTag.to_text` wrote. Raises ``ValueError`` for anything else."""
    try:
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise ValueError(f"version {fields['version']!r}")
        depth, value_range, origin_ns = fields["bit_depth"], fields["value_range"], fields["origin_ns"]
        if not 8 <= depth <= 16 or value_range not in get_args(ValueRange):
            raise ValueError(f"{depth = }, {value_range = }")
        given = fields["radiometry"]
        radiometry = None if given is None else radiometry_of_json(json.dumps(given))
        return InfraredTag(int(depth), value_range, radiometry, None if origin_ns is None else int(origin_ns))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the tag {TAG} is not one that this version reads: {error!r}") from error
