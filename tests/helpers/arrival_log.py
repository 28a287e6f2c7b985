"""The arrival log: a record of what arrived when, and its replay through a pairer.

Pairing of live cameras is a function of its inputs: frames, their arrival times, and the times at which waits expired.
:class:`ArrivalLog` records them; :func:`replay` makes the same pairs from the log, at any speed. Images are not kept,
only the checksums needed to detect freezes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from fractions import Fraction
from typing import Any

import numpy as np

from fusepipe.core.frames import Band, Disconnected, Frame, FramePair, Plane, Stamp, UnreadableFrame
from fusepipe.pipeline.pairing.freeze import luma_checksum
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.sources.base import SourceItem


class ArrivalLog:
    """Wraps a pairer and logs its inputs: ``write`` is called with one line of JSON for each."""

    def __init__(self, pairer: Pairer, write: Callable[[str], object]) -> None:
        self.log = pairer.log
        self._pairer = pairer
        self._write = write

    def wants(self) -> Band | None:
        return self._pairer.wants()

    def push(self, item: SourceItem) -> list[FramePair]:
        self._note(push=_item(item))
        return self._pairer.push(item)

    def end(self, band: Band) -> list[FramePair]:
        self._note(end=str(band))
        return self._pairer.end(band)

    def expire(self, now_ns: int) -> list[FramePair]:
        self._note(expire=now_ns)
        return self._pairer.expire(now_ns)

    def deadline_ns(self) -> int | None:
        return self._pairer.deadline_ns()

    def _note(self, **event: Any) -> None:
        self._write(json.dumps(event))


def replay(lines: Iterable[str], pairer: Pairer) -> Iterator[FramePair]:
    """The pairs that ``pairer`` makes from a log; their images contain only the checksum."""
    for line in lines:
        event = json.loads(line)
        if "push" in event:
            yield from pairer.push(_restored(event["push"]))
        elif "expire" in event:
            yield from pairer.expire(event["expire"])
        else:
            yield from pairer.end(Band(event["end"]))


def _item(item: SourceItem) -> dict[str, Any]:
    if isinstance(item, Disconnected):
        return {"band": str(item.band), "disconnected": item.reason, "arrival_ns": item.arrival_ns}
    common = {"band": str(item.band), "index": item.index, "capture_ns": item.capture_ns, "arrival_ns": item.arrival_ns}
    if isinstance(item, UnreadableFrame):
        return {**common, "unreadable": item.reason}
    stamp = None if item.stamp is None else list(astuple(item.stamp))
    return {**common, "stamp": stamp, "checksum": luma_checksum(item)}


def _restored(data: dict[str, Any]) -> SourceItem:
    band, arrival_ns = Band(data["band"]), data["arrival_ns"]
    if "disconnected" in data:
        return Disconnected(band, data["disconnected"], arrival_ns)
    index, capture_ns = data["index"], data["capture_ns"]
    if "unreadable" in data:
        return UnreadableFrame(band, index, data["unreadable"], capture_ns, arrival_ns=arrival_ns)
    return Frame(
        band=band,
        planes=(Plane(np.array([[data["checksum"]]], np.uint32).view(np.uint8)),),
        index=index,
        capture_ns=capture_ns,
        pts=0,
        time_base=Fraction(1, 1000),
        arrival_ns=arrival_ns,
        stamp=None if data["stamp"] is None else Stamp(*data["stamp"]),
    )
