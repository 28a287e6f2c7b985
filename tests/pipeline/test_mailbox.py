"""Mailboxes: bounded, ordered, named overflow, and every wait can be woken."""

import random
import threading
import time
from collections import deque

import pytest

from fusepipe.pipeline.mailbox import BURST_NS, RECOVERY_NS, Cancelled, Closed, Mailbox, get_any
from fusepipe.pipeline.sources.base import Overflow

MS = 1_000_000


def in_thread(function):
    """Runs ``function`` in a thread; a list that gets what it returned or raised, and the thread."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except (Cancelled, Closed) as signal:
            outcome.append(type(signal))

    thread = threading.Thread(target=run)
    thread.start()
    return outcome, thread


def test_keeps_order_and_delivers_the_rest_after_close():
    box = Mailbox("b", 3)
    for i in range(3):
        box.put(i)
    box.close()
    assert [box.get(), box.get(), box.get()] == [0, 1, 2]
    with pytest.raises(Closed):
        box.get()


def test_block_waits_for_room_and_never_drops():
    box = Mailbox("b", 1)
    box.put("first")
    outcome, thread = in_thread(lambda: box.put("second"))
    thread.join(0.05)
    assert thread.is_alive(), "put must wait while the mailbox is full"
    assert box.get() == "first"
    thread.join(2)
    assert box.get(1) == "second"
    assert box.dropped == 0 and outcome == [None]


def test_drop_oldest_never_waits_and_counts():
    box = Mailbox("b", 2, Overflow.DROP_OLDEST)
    for i in range(5):
        box.put(i)
    assert [box.get(), box.get()] == [3, 4]
    assert box.dropped == 3


def test_a_burst_is_kept_for_a_consumer_that_is_in_time_and_not_for_a_late_one():
    box = Mailbox("b", 2, Overflow.DROP_OLDEST, burst=5)
    for i in range(6):
        box.put(i)
    assert box.dropped == 1 and box.depth == 5, "never more than the burst"
    time.sleep(BURST_NS / 1e9)
    box.put(6)
    assert [box.get(), box.get()] == [5, 6], "the others were dropped"
    assert box.dropped == 5


class World:
    """A producer and a consumer in one thread, by a clock of their own; stands in for the mailbox's condition too.

    ``events`` are (time in ns, item) in order. ``took`` gets (time, item) of what the consumer takes.
    """

    def __init__(self, monkeypatch, events, *, capacity=1, burst=8):
        self.now_ns = 0
        self.events = deque(events)
        self.box = Mailbox("b", capacity, Overflow.DROP_OLDEST, self, burst=burst)
        self.put = {item: at_ns for at_ns, item in self.events}
        self.took = []
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def notify_all(self):
        return None

    def wait(self, timeout_s):
        """The consumer has nothing to do until the next item comes."""
        if not self.events:
            self.box.close()
            return
        self.now_ns, item = self.events.popleft()
        self.box.put(item)

    def consume(self, service_ns):
        """Until the last item; ``service_ns`` of an item is called with the time."""
        while True:
            try:
                item = self.box.get()
            except Closed:
                break
            self.took.append((self.now_ns, item))
            done_ns = self.now_ns + service_ns(self.now_ns)
            while self.events and self.events[0][0] <= done_ns:
                self.wait(None)
            self.now_ns = done_ns
        assert len(self.took) + self.box.dropped == len(self.put), "what was not taken is counted"

    def missing(self):
        return self.put.keys() - {item for _, item in self.took}


def test_bursts_pass_again_once_a_consumer_that_was_late_has_shown_that_it_keeps_up(monkeypatch):
    """A 9 Hz infrared camera beside a 25 Hz visible one: pairs come in threes, and one hiccup is not for ever."""
    threes = [(3 * 40 * MS * group + MS, 3 * group + each) for group in range(100) for each in range(3)]
    world = World(monkeypatch, threes)
    world.consume(lambda now_ns: 350 * MS if 2000 * MS < now_ns < 2100 * MS else 15 * MS)
    lost_ns = [world.put[item] for item in world.missing()]
    assert min(lost_ns) > 2000 * MS, "none before the hiccup"
    assert max(lost_ns) < 2400 * MS + RECOVERY_NS, "and none once it was watched for long enough"


@pytest.mark.parametrize("jitter_ms", [0, 15])
def test_a_consumer_that_is_always_too_slow_gets_the_newest_only(monkeypatch, jitter_ms):
    rng = random.Random(1)
    even = [(40 * MS * n + rng.randint(0, jitter_ms) * MS, n) for n in range(1000)]
    world = World(monkeypatch, even)
    world.consume(lambda now_ns: 48 * MS)
    waits_ms = [(at_ns - world.put[item]) / MS for at_ns, item in world.took if at_ns > 4_000 * MS]
    assert max(waits_ms) <= 40 + jitter_ms, "a newer one takes its place"
    assert len(world.took) == pytest.approx(1000 * 40 / 48, rel=0.02), "and it never waits while there is one"


def test_drops_do_not_count_against_a_consumer_with_idle_time(monkeypatch):
    """Seven items together, of which only the newest is kept: still a load of two thirds."""
    sevens = [(210 * MS * group, 7 * group + each) for group in range(60) for each in range(7)]
    world = World(monkeypatch, sevens, burst=8)
    world.consume(lambda now_ns: 200 * MS if now_ns < 100 * MS else 10 * MS)
    assert max(world.put[item] for item in world.missing()) < RECOVERY_NS + 600 * MS


@pytest.mark.parametrize("waiting", ["get", "put"])
def test_cancel_wakes_either_side(waiting):
    box = Mailbox("b", 1)
    if waiting == "put":
        box.put(0)
    outcome, thread = in_thread(box.get if waiting == "get" else lambda: box.put(1))
    box.cancel()
    thread.join(2)
    assert outcome == [Cancelled]
    with pytest.raises(Cancelled):
        box.put(2)


def test_close_wakes_a_waiting_consumer():
    box = Mailbox("b", 1)
    outcome, thread = in_thread(box.get)
    box.close()
    thread.join(2)
    assert outcome == [Closed]


def test_get_times_out():
    with pytest.raises(TimeoutError):
        Mailbox("b", 1).get(0.01)


def test_get_any_takes_from_whichever_has_something_and_names_the_closed_one():
    arrivals = threading.Condition()
    a, b = (Mailbox(name, 2, condition=arrivals) for name in "ab")
    b.put(1)
    box, item = get_any([a, b])
    assert (box, item) == (b, 1)
    b.close()
    with pytest.raises(Closed) as closed:
        get_any([a, b])
    assert closed.value.args == (b,)


def test_a_mailbox_holds_at_least_one():
    with pytest.raises(ValueError, match="capacity = 0"):
        Mailbox("b", 0)
