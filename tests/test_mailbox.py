"""Mailboxes: bounded, ordered, named overflow, and every wait can be woken."""

import threading
import time

import pytest

from fusepipe.pipeline.mailbox import BURST_NS, RECOVERY_NS, Cancelled, Closed, Mailbox, get_any
from fusepipe.pipeline.sources.base import Overflow


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
    assert [box.get(), box.get()] == [5, 6], "nobody came for the others"
    assert box.dropped == 5


def test_a_consumer_that_was_late_gets_the_newest_only_until_it_has_kept_up_for_a_while(monkeypatch):
    now_ns = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    box = Mailbox("b", 1, Overflow.DROP_OLDEST, burst=5)
    box.put(0)
    now_ns = BURST_NS
    box.put(1)
    assert box.dropped == 1 and box.get() == 1
    now_ns += RECOVERY_NS - BURST_NS
    box.put(2)
    box.put(3)
    assert box.dropped == 2 and box.get() == 3, "it was late a short while ago"
    now_ns += RECOVERY_NS
    box.put(4)
    box.put(5)
    assert box.dropped == 2 and [box.get(), box.get()] == [4, 5]


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
