"""Bounded mailboxes between the stages.

A mailbox has a producer and a consumer and ends in one of two ways: the producer closes it (what is inside is still
delivered, then :class:`Closed` is raised), or it is cancelled (both sides wake with :class:`Cancelled`). Every wait is
woken by either.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fusepipe.pipeline.sources.base import Overflow

T = TypeVar("T")

BURST_NS = 100_000_000  # a consumer that takes an item within this time keeps up
RECOVERY_NS = 2_000_000_000  # how long a consumer that was late is measured before it gets bursts again
MAX_LOAD = 0.95  # share of its time that a consumer may be busy to get bursts again


class Closed(Exception):  # noqa: N818 - a signal between threads, not an error
    """The producer has finished and all items were delivered."""


class Cancelled(Exception):  # noqa: N818
    """The run is being aborted, or the other side has ended."""


@dataclass(slots=True)
class _LoadMeter:
    """Measures the load of a consumer that was late. Drops do not show it: a burst loses all but its newest items."""

    since_ns: int
    idle_ns: int = 0
    put: int = 0
    taken: int = 0

    def keeps_up(self, now_ns: int) -> bool:
        """Whether it would have had time for all items put, at the pace at which it handled those it took."""
        busy = 1 - self.idle_ns / (now_ns - self.since_ns)
        return busy * self.put <= MAX_LOAD * self.taken


class Mailbox(Generic[T]):
    """A bounded queue with an overflow policy that counts dropped items.

    With ``drop_oldest`` it holds up to ``burst`` items while the oldest has waited less than ``BURST_NS``, so that
    items which arrive together (a camera's backlog, pairs that waited for one frame) are not lost if the consumer keeps
    up. A consumer that was late gets only the newest ``capacity`` items until it has shown for ``RECOVERY_NS`` that it
    has time for all of them; otherwise a stage that is always too slow would delay each item by ``BURST_NS``. Mailboxes
    may share one ``condition``, so that a consumer can wait for any of them (:func:`get_any`).
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        overflow: Overflow = Overflow.BLOCK,
        condition: threading.Condition | None = None,
        *,
        burst: int = 0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one item; {capacity = }")
        self.name = name
        self.capacity = capacity
        self.overflow = overflow
        self.dropped = 0
        self._burst = max(burst, capacity)
        self._load: _LoadMeter | None = None  # while the consumer is, or was recently, late
        self._idle_from_ns: int | None = None  # since when the consumer has waited for an item
        self._items: deque[tuple[int, T]] = deque()  # with the time at which each was put
        self._closed = False
        self._cancelled = False
        self._condition = condition or threading.Condition()

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Adds an item. When full: waits (``block``) or drops the oldest (``drop_oldest``)."""
        with self._condition:
            while not self._cancelled and self.overflow is Overflow.BLOCK and len(self._items) >= self.capacity:
                self._condition.wait()
            if self._cancelled or self._closed:
                raise Cancelled(self.name)
            now_ns = time.monotonic_ns()
            self._end_idling(now_ns)
            late = len(self._items) >= self.capacity and self._is_late(now_ns)
            while len(self._items) >= (self.capacity if late else self._burst):
                self._items.popleft()
                self.dropped += 1
            self._items.append((now_ns, item))
            if self._load is not None:
                self._load.put += 1
            self._condition.notify_all()

    def _is_late(self, now_ns: int) -> bool:
        """Whether the consumer of a full mailbox is late, or was and has not shown yet that it keeps up; locked."""
        if now_ns - self._items[0][0] >= BURST_NS:
            self._load = _LoadMeter(now_ns)
        elif self._load is not None and now_ns - self._load.since_ns >= RECOVERY_NS:
            self._load = None if self._load.keeps_up(now_ns) else _LoadMeter(now_ns)
        return self._load is not None

    def _begin_idling(self, now_ns: int) -> None:
        """The consumer starts to wait for an item; locked."""
        self._idle_from_ns = now_ns

    def _end_idling(self, now_ns: int) -> None:
        """An item has arrived, or the wait has ended; locked."""
        if self._idle_from_ns is not None and self._load is not None:
            self._load.idle_ns += now_ns - max(self._idle_from_ns, self._load.since_ns)
        self._idle_from_ns = None

    def get(self, timeout_s: float | None = None) -> T:
        """The oldest item. Raises ``TimeoutError``, :class:`Closed` or :class:`Cancelled`."""
        return get_any([self], timeout_s)[1]

    def close(self) -> None:
        """Ends the producer side; items inside are still delivered."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def cancel(self) -> None:
        """Wakes both sides with :class:`Cancelled` and discards the items."""
        with self._condition:
            self._cancelled = True
            self._items.clear()
            self._condition.notify_all()

    def poll(self) -> T | None:
        """The oldest item, or ``None`` if there is none now. Raises :class:`Cancelled`."""
        with self._condition:
            if self._cancelled:
                raise Cancelled(self.name)
            if not self._items:
                return None
            _, item = self._items.popleft()
            if self._load is not None:
                self._load.taken += 1
            self._condition.notify_all()
            return item

    @property
    def finished(self) -> bool:
        """Closed and empty."""
        return self._closed and not self._items


def get_any(boxes: Sequence[Mailbox[T]], timeout_s: float | None = None) -> tuple[Mailbox[T], T]:
    """Waits for the next item of any of ``boxes``, which share one condition; earlier boxes take precedence.

    Raises :class:`Closed`, whose argument is the mailbox, as soon as one of them is closed and empty.
    """
    condition = boxes[0]._condition
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with condition:
        while True:
            for box in boxes:
                item = box.poll()
                if item is not None:
                    return box, item
            for box in boxes:
                if box.finished:
                    raise Closed(box)
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise TimeoutError(boxes[0].name)
            now_ns = time.monotonic_ns()
            for box in boxes:
                box._begin_idling(now_ns)
            condition.wait(remaining)
            now_ns = time.monotonic_ns()
            for box in boxes:
                box._end_idling(now_ns)
