"""The contract of a pairer: which infrared frame belongs to which visible frame.

Pure: no threads, no clocks, no sleeping. The caller feeds frames as they come and passes the time in; a pairer
returns pairs. Recordings and live cameras use the same code: for recordings the caller asks :meth:`Pairer.wants` which
stream to read next, so the pairs do not depend on how fast either stream is read; for live cameras it feeds whatever
arrives and calls :meth:`Pairer.expire`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from fusepipe.core.frames import Band, FramePair, UnreadableFrame
from fusepipe.pipeline.sources.base import SourceItem

MAX_NOTES = 50  # how many skipped frames are described one by one; all are counted


@dataclass
class PairingLog:
    """Items that did not become part of a pair: counted by reason, the first ones described."""

    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, detail: str = "", count: int = 1) -> None:
        self.skipped[reason] += count
        if detail and len(self.notes) < MAX_NOTES:
            self.notes.append(f"{reason}: {detail}")

    def unreadable(self, item: UnreadableFrame) -> None:
        self.skip(f"unreadable {item.band}", f"{item.name or f'frame {item.index}'}: {item.reason}")


class Pairer(Protocol):
    """Makes pairs from two streams."""

    log: PairingLog

    def wants(self) -> Band | None:
        """The stream whose next item decides the next pair; ``None`` if no more pairs are possible."""

    def push(self, item: SourceItem) -> list[FramePair]:
        """Takes the next item of its stream; returns the pairs decided by it, in order."""

    def end(self, band: Band) -> list[FramePair]:
        """Ends a stream; returns the pairs decided by it."""

    def expire(self, now_ns: int) -> list[FramePair]:
        """Live only: decides the pairs whose wait has expired at ``now_ns`` (monotonic)."""

    def deadline_ns(self) -> int | None:
        """Live only: when :meth:`expire` has to be called next (monotonic), or ``None``."""
