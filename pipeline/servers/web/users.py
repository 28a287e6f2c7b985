"""The users of the preview page, and what each role may do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fusepipe.core.passwords import PasswordHash

# What a viewer is told of a rig: what is on the image, not how the installation is built. Names of files, addresses of
# cameras and outputs, the engine and the machine's load are for operators.
_VIEWER_KEYS = frozenset(
    {
        "rig",
        "seconds",
        "ready",
        "state",
        "last_frame_age_s",
        "read",
        "pairs",
        "skipped",
        "dropped",
        "skew_ms",
        "latency_ms",
        "recent",
        "view",
        "spots",
        "temperatures",
    }
)


class Role(StrEnum):
    """What a user may do; each role includes the ones before it."""

    VIEWER = "viewer"  # watch the video, see the state of the rigs
    OPERATOR = "operator"  # and whatever the page offers

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class PageUser:
    """One user who logs in with a password."""

    name: str
    role: Role
    password: PasswordHash = field(repr=False)


def record_for(role: Role, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a role is told of a rig's record: a viewer not the reasons of its state, which name addresses."""
    if role.includes(Role.OPERATOR):
        return dict(record)
    shown = {key: value for key, value in record.items() if key in _VIEWER_KEYS}
    shown["sinks"] = [
        {"up": sink.get("up", False), "frames": sink.get("frames", 0)} for sink in record.get("sinks", ())
    ]
    if "status" in record:
        shown["status"] = {**record["status"], "reasons": []}
    return shown
