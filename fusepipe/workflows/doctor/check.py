"""One line of a diagnosis: what was looked at, how it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. ``fix`` is what to do, for notes and problems."""

    section: str
    name: str
    status: Status
    text: str
    fix: str = ""


def healthy(checks: Iterable[Check]) -> bool:
    """Whether everything that is required works."""
    return all(check.status != "problem" for check in checks)
