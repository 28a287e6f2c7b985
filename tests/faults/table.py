"""Results of injections, as rows of the table in docs/measurements/live-faults.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HEAD = (
    "| fault | injections | longest gap: median, max | fused again after: median, max | states | lost, in all |\n"
    "|---|---|---|---|---|---|\n"
)
ORDER = ("fused", "held", "single", "no signal")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one injection: longest gap, seconds until fused again, frames by state, losses by reason."""

    seed: str
    gap_s: float
    recovered_s: float
    states: Counter[str]
    lost: Counter[str]


def row(fault: str, outcomes: Sequence[Outcome]) -> str:
    """``states``: in how many injections each was seen."""
    gaps, recoveries = [o.gap_s for o in outcomes], [o.recovered_s for o in outcomes]
    seen = Counter(state for o in outcomes for state in o.states)
    states = ", ".join(f"{state} {seen[state]}" for state in ORDER if seen[state])
    lost = sum((o.lost for o in outcomes), Counter())
    reasons = ", ".join(f"{count} {reason}" for reason, count in lost.most_common()) or "nothing"
    return (
        f"| {fault} | {len(outcomes)} | {median(gaps):.2f} s, {max(gaps):.2f} s "
        f"| {median(recoveries):.2f} s, {max(recoveries):.2f} s | {states} | {reasons} |\n"
    )


def append(path: Path, line: str) -> None:
    """Appends a row to the file, after the table's header where it is new."""
    head = "" if path.exists() else HEAD
    with path.open("a", encoding="utf-8") as file:
        file.write(head + line)
