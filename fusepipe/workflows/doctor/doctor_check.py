"""One doctor check: name, status, message, fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """A line of the report. ``fix``: a command or advice for notes and problems, else empty."""

    section: str
    name: str
    status: Status
    message: str
    fix: str = ""


def healthy(checks: Iterable[DoctorCheck]) -> bool:
    """Whether no check found a problem."""
    return all(check.status != "problem" for check in checks)
