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
from typing import Generic, TypeVar

from fusepipe.pipeline.sources.base import Overflow

T = TypeVar("T")

BURST_NS = 100_000_000  # a consumer that takes an item within this time is not late
RECOVERY_NS = 2_000_000_000  # so long after it was late, a consumer gets no bursts


class Closed(Exception):  # noqa: N818 - a signal between threads, not an error
    """The producer has finished and everything was delivered."""


class Cancelled(Exception):  # noqa: N818
    """The run is being stopped, or the other side has gone away."""


class Mailbox(Generic[T]):
    """A bounded queue that names its overflow rule and counts what it dropped.

    With ``drop_oldest`` it may hold up to ``burst`` items while the oldest has waited less than ``BURST_NS``: several
    that come at once (a camera's backlog, pairs that waited for one frame) are not lost to a consumer that would take
    them in time. One that was late gets the newest ``capacity`` only, until nothing was dropped for ``RECOVERY_NS``: else
    a stage that is always too slow would let each item wait for ``BURST_NS`` first. Several mailboxes may share one
    ``condition``, so that a consumer can wait for any of them (:func:`get_any`).
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
        self._late_ns: int | None = None  # when it dropped last
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
            while len(self._items) >= self.capacity:
                if self._is_late(now_ns):
                    self._late_ns = now_ns
                elif len(self._items) < self._burst:
                    break
                self._items.popleft()
                self.dropped += 1
            self._items.append((now_ns, item))
            self._condition.notify_all()

    def _is_late(self, now_ns: int) -> bool:
        """Under the lock, full: whether the consumer is, or was a short while ago."""
        was_late = self._late_ns is not None and now_ns - self._late_ns < RECOVERY_NS
        return was_late or now_ns - self._items[0][0] >= BURST_NS

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
            condition.wait(remaining)
