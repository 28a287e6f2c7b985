"""Bounded mailboxes between the stages.

A mailbox has one producer side and one consumer side and ends in one of two ways: the producer
``close``\\ s it (what is inside is still delivered, then :class:`Closed`), or somebody ``cancel``\\ s it
(both sides wake at once with :class:`Cancelled`). Every wait can be woken by either.
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

BURST_NS = 100_000_000  # a consumer that takes an item within this time is not late
RECOVERY_NS = 2_000_000_000  # so long a consumer that was late gets no bursts, and is watched
MOST_LOAD = 0.95  # of its time that a consumer may need for everything, to get bursts again


class Closed(Exception):  # noqa: N818 - a signal between threads, not an error
    """The producer has finished and everything was delivered."""


class Cancelled(Exception):  # noqa: N818
    """The run is being stopped, or the other side has gone away."""


@dataclass(slots=True)
class _Watch:
    """What a consumer was seen to do since it was late. Drops say nothing of it: a burst loses all but its newest."""

    since_ns: int
    idle_ns: int = 0
    put: int = 0
    taken: int = 0

    def keeps_up(self, now_ns: int) -> bool:
        """Whether it would have had the time for everything that was put, at its pace with what it took."""
        busy = 1 - self.idle_ns / (now_ns - self.since_ns)
        return busy * self.put <= MOST_LOAD * self.taken


class Mailbox(Generic[T]):
    """A bounded queue that names its overflow rule and counts what it dropped.

    With ``drop_oldest`` it may hold up to ``burst`` items while the oldest has waited less than ``BURST_NS``: several
    that come at once (a camera's backlog, pairs that waited for one frame) are not lost to a consumer that would take
    them in time. One that was late gets the newest ``capacity`` only, until it has been watched for ``RECOVERY_NS`` to
    have the time for everything: else a stage that is always too slow would let each item wait for ``BURST_NS`` first.
    Several mailboxes may share one ``condition``, so that a consumer can wait for any of them (:func:`get_any`).
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
        self._watch: _Watch | None = None  # while the consumer was late a short while ago
        self._idle_from_ns: int | None = None  # since when the consumer waits for an item
        self._items: deque[tuple[int, T]] = deque()  # with the time at which each was put
        self._closed = False
        self._cancelled = False
        self._condition = condition or threading.Condition()

    @property
    def depth(self) -> int:
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
            if self._watch is not None:
                self._watch.put += 1
            self._condition.notify_all()

    def _is_late(self, now_ns: int) -> bool:
        """Under the lock, full: whether the consumer is, or was and has not shown yet that it keeps up."""
        if now_ns - self._items[0][0] >= BURST_NS:
            self._watch = _Watch(now_ns)
        elif self._watch is not None and now_ns - self._watch.since_ns >= RECOVERY_NS:
            self._watch = None if self._watch.keeps_up(now_ns) else _Watch(now_ns)
        return self._watch is not None

    def _begin_idling(self, now_ns: int) -> None:
        """Under the lock: the consumer has to wait for an item."""
        self._idle_from_ns = now_ns

    def _end_idling(self, now_ns: int) -> None:
        """Under the lock: there is one for it, or it gave up waiting."""
        if self._idle_from_ns is not None and self._watch is not None:
            self._watch.idle_ns += now_ns - max(self._idle_from_ns, self._watch.since_ns)
        self._idle_from_ns = None

    def get(self, timeout_s: float | None = None) -> T:
        """The oldest item. Raises ``TimeoutError``, :class:`Closed` or :class:`Cancelled`."""
        return get_any([self], timeout_s)[1]

    def close(self) -> None:
        """The producer has no more; what is inside will still be delivered."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def cancel(self) -> None:
        """Wakes both sides for good and forgets what is inside."""
        with self._condition:
            self._cancelled = True
            self._items.clear()
            self._condition.notify_all()

    def _take(self) -> T | None:
        """Under the lock: an item, or ``None``; raises when cancelled."""
        if self._cancelled:
            raise Cancelled(self.name)
        if not self._items:
            return None
        _, item = self._items.popleft()
        if self._watch is not None:
            self._watch.taken += 1
        self._condition.notify_all()
        return item

    @property
    def finished(self) -> bool:
        """Closed and empty: nothing will come any more."""
        return self._closed and not self._items


def get_any(boxes: Sequence[Mailbox[T]], timeout_s: float | None = None) -> tuple[Mailbox[T], T]:
    """The first item of any of ``boxes`` (which share one condition), earlier boxes first.

    Raises :class:`Closed`, whose argument is the mailbox, as soon as one of them is closed and empty.
    """
    condition = boxes[0]._condition
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with condition:
        while True:
            for box in boxes:
                item = box._take()
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
