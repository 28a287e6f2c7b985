"""The report of an acceptance: its steps in order, each with how it ended, and what was read of the machine."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_REASONS = 20  # failed tests whose message is kept


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: what was asked, whether it passed, how long it took, the reason if it failed, and its result."""

    name: str
    asked: dict[str, Any]
    passed: bool
    seconds: float
    limit_s: float
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """For the terminal."""
        return f"{'ok' if self.passed else 'FAILED':7} {self.seconds:7.1f} s  {self.name}" + (
            "" if self.passed else f": {self.reason}"
        )


@dataclass(slots=True)
class AcceptanceReport:
    """Everything; ``machine`` is the result of the first step. ``seconds`` is the time until the last step ended."""

    started: str
    dry_run: bool
    machine: dict[str, Any]
    steps: list[StepReport]
    seconds: float = 0.0

    @property
    def failed(self) -> list[StepReport]:
        """The steps that failed."""
        return [step for step in self.steps if not step.passed]

    def of_kind(self, kind: str) -> list[StepReport]:
        """The steps of one kind, in order."""
        return [step for step in self.steps if step.asked.get("kind") == kind]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"ok": not self.failed, **asdict(self)}


def read_junit(path: Path) -> dict[str, Any]:
    """Counts of a JUnit file of pytest, and the message of each test that failed; empty if there is no file."""
    if not path.exists():
        return {}
    suite = next(ElementTree.parse(path).iter("testsuite"))
    tests, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    messages = {}
    for case in suite.iter("testcase"):
        for problem in (*case.iter("failure"), *case.iter("error")):
            lines = (problem.get("message") or "no message").splitlines()
            messages[f"{case.get('classname')}::{case.get('name')}"] = lines[0]
    kept = dict(list(messages.items())[:_REASONS])
    passed = tests - failures - errors - skipped
    return {"passed": passed, "failed": failures + errors, "skipped": skipped, "messages": kept}
