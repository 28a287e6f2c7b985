"""Sinks of live rigs are restarted after failures, without blocking the pipeline."""

import threading
import time
from contextlib import suppress

import pytest

from fusepipe.core.errors import DiskFullError, OutputExistsError, SinkError, SinkSetupError
from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState
from fusepipe.pipeline.backoff import FULL_DISK, SINK, Backoff, BackoffPolicy
from fusepipe.pipeline.mailbox import Cancelled, Mailbox
from fusepipe.pipeline.servers.web.prometheus import prometheus_text
from fusepipe.pipeline.sinks import runner as sink_runner
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.runner import SinkRunner
from fusepipe.pipeline.sources.base import Overflow
from fusepipe.pipeline.testing import MS, CollectSink, frame
from fusepipe.rig.report.summary import sink_line

S = 1_000_000_000


def fused(index):
    visible = frame(Band.VISIBLE, index, index * 40 * MS)
    pair = FramePair(index, PairState.SINGLE, Band.VISIBLE, None, visible)
    return FusedFrame(pair, visible.planes, PairState.SINGLE, index, visible.capture_ns, 0, visible.time_base)


class Fragile(CollectSink):
    """Fails when it has taken ``lasts`` frames."""

    def __init__(self, lasts, error=None):
        super().__init__()
        self._lasts, self._error = lasts, error or SinkError("the cable is out")

    def write(self, frame):
        if len(self.frames) >= self._lasts:
            raise self._error
        super().write(frame)


@pytest.fixture
def quick(monkeypatch):
    """Waits of 20 ms, 40 ms, ... instead of half a second and more."""
    policy = BackoffPolicy(first_ns=20 * MS, cap_ns=80 * MS, jitter=0.0, healthy_ns=S)
    monkeypatch.setattr(sink_runner, "SINK", policy)
    monkeypatch.setattr(sink_runner, "FULL_DISK", policy)


class Feed:
    """A runner in a thread of its own, fed with a frame every 5 ms until it is stopped."""

    def __init__(self, sinks, *, live=True, restartable=True):
        self._sinks = iter(sinks)
        self.inbox = Mailbox("sink-1", 4, Overflow.DROP_OLDEST if live else Overflow.BLOCK)
        self.written, self.raised = [], None
        self.replacements = 0
        self.runner = SinkRunner(
            "roof",
            next(self._sinks),
            self.inbox,
            live=live,
            factory=self._make if restartable else None,
            written=lambda made, now_ns: self.written.append(made.index),
            chance=lambda: 0.0,
        )
        self.thread = threading.Thread(target=self._run, name="feed")

    def _make(self):
        self.replacements += 1
        made = next(self._sinks)
        if isinstance(made, Exception):
            raise made
        return made

    def _run(self):
        try:
            self.runner.run()
        except Exception as error:  # noqa: BLE001 - kept for the test
            self.raised = error
        finally:
            self.inbox.cancel()  # no more consumers: releases a blocked producer

    def until(self, condition, timeout_s=10):
        """Feeds until ``condition``; then closes the mailbox and joins."""
        self.thread.start()
        deadline, index, slowest_s = time.monotonic() + timeout_s, 0, 0.0
        while not condition() and self.thread.is_alive():
            assert time.monotonic() < deadline, "did not happen in time"
            begun = time.monotonic()
            with suppress(Cancelled):
                self.inbox.put(fused(index))
            slowest_s = max(slowest_s, time.monotonic() - begun)
            index += 1
            time.sleep(0.005)
        self.inbox.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        return slowest_s


def test_a_failed_sink_is_restarted_and_counted(quick, caplog):
    caplog.set_level("INFO")
    sinks = [Fragile(3), Fragile(0), Fragile(5), CollectSink()]
    feed = Feed(sinks)
    slowest_s = feed.until(lambda: len(sinks[3].frames) > 10)
    assert feed.raised is None and slowest_s < 1.0, "the producer is never blocked"
    status = feed.runner.status()
    assert (status["up"], status["failures"], status["restarts"], status["error"]) == (True, 3, 2, None)
    assert status["missed"] > 3, "frames that arrived during the back-off"
    assert [s.closed for s in sinks] == [1, 1, 1, 1], "each is closed exactly once"
    report = feed.runner.report
    assert report.frames == sum(len(s.frames) for s in sinks) == len(feed.written)
    text = caplog.text
    assert text.count("the cable is out; other outputs continue, retrying in") == 2, "not each time"
    assert text.count("memory: recovered after") == 2


def waits_ms(caplog):
    return [record.args[-1] * 1000 for record in caplog.records if "retrying in" in record.message]


def test_the_waits_double_up_to_the_cap_and_a_healthy_time_resets_them(monkeypatch, caplog):
    policy = BackoffPolicy(first_ns=20 * MS, cap_ns=80 * MS, jitter=0.0, healthy_ns=50 * MS)
    monkeypatch.setattr(sink_runner, "SINK", policy)
    monkeypatch.setattr(sink_runner, "REPEAT_LOG_NS", -1)  # every failure is logged
    sinks = [*(Fragile(0) for _ in range(4)), Fragile(30), CollectSink()]
    feed = Feed(sinks)
    feed.until(lambda: len(sinks[5].frames) > 2)
    assert waits_ms(caplog) == pytest.approx([20, 40, 80, 80, 20]), "30 frames take longer than the healthy time"


def test_a_full_disk_is_retried_less_often():
    assert sink_runner.backoff_policy(DiskFullError("full")) is FULL_DISK
    assert sink_runner.backoff_policy(SinkError("x")) is SINK
    backoff = Backoff(SINK)
    waits_ns = [backoff.wait_ns(0.0, FULL_DISK) for _ in range(9)]
    assert waits_ns[0] == 10 * S and waits_ns[-1] == 300 * S


@pytest.mark.parametrize("error", [SinkSetupError("NVENC does not open here"), OutputExistsError("a.mkv is there")])
def test_permanent_failures_are_not_retried(error):
    feed = Feed([Fragile(1, error), CollectSink()])
    feed.until(lambda: False)
    assert feed.raised is error and feed.replacements == 0 and feed.runner.status()["up"] is False


def test_a_replacement_that_cannot_be_made_ends_it(quick):
    feed = Feed([Fragile(1), SinkSetupError("the rig is wrong")])
    feed.until(lambda: False)
    assert str(feed.raised) == "the rig is wrong" and feed.replacements == 1


def test_the_sink_of_a_conversion_is_not_restarted():
    feed = Feed([Fragile(1), CollectSink()], live=False)
    feed.until(lambda: False)
    assert str(feed.raised) == "the cable is out" and feed.replacements == 0


def test_a_sink_without_a_factory_is_not_restarted():
    feed = Feed([Fragile(1)], restartable=False)
    feed.until(lambda: False)
    assert isinstance(feed.raised, SinkError)


def test_a_defect_of_a_live_sink_does_not_affect_the_run(quick):
    sinks = [Fragile(1, ZeroDivisionError("oops")), CollectSink()]
    feed = Feed(sinks)
    feed.until(lambda: len(sinks[1].frames) > 2)
    assert feed.raised is None and feed.runner.failures == 1
    offline = Feed([Fragile(1, ZeroDivisionError("oops"))], live=False)
    offline.until(lambda: False)
    assert isinstance(offline.raised, ZeroDivisionError)


def test_a_run_that_ends_while_the_sink_is_down_does_not_wait_for_it():
    feed = Feed([Fragile(1, DiskFullError("full")), CollectSink()])  # the wait is ten seconds
    begun = time.monotonic()
    feed.until(lambda: feed.runner.missed > 3)
    assert time.monotonic() - begun < 5
    assert feed.raised is None and isinstance(feed.runner.error, DiskFullError)


def test_a_restart_can_be_requested_without_a_failure():
    first, second = CollectSink(), CollectSink()
    feed, asked = Feed([first, second]), []

    def there():
        if len(first.frames) >= 5 and not asked:
            asked.append(feed.runner.request_restart())
        return len(second.frames) > 5

    feed.until(there)
    assert feed.raised is None and (first.closed, second.closed) == (1, 1)
    seen = [made.index for made in (*first.frames, *second.frames)]
    assert feed.runner.status() == {
        "sink": "memory",
        "up": True,
        "frames": len(seen),
        "failures": 0,
        "restarts": 0,
        "missed": 0,
        "error": None,
    }
    assert seen == sorted(seen) == feed.written


def test_a_requested_restart_ends_the_back_off():
    sinks = [Fragile(1, DiskFullError("full")), CollectSink()]  # the wait would be ten seconds
    feed, asked = Feed(sinks), []

    def there():
        if feed.runner.missed > 3 and not asked:
            asked.append(feed.runner.request_restart())
        return len(sinks[1].frames) > 2

    begun = time.monotonic()
    feed.until(there)
    assert time.monotonic() - begun < 8 and feed.runner.status()["restarts"] == 1


def test_a_cancelled_run_closes_the_sink():
    sink = CollectSink()
    feed = Feed([sink])
    feed.inbox.put(fused(0))
    feed.thread.start()
    deadline = time.monotonic() + 10
    while not sink.frames and time.monotonic() < deadline:
        time.sleep(0.01)
    feed.inbox.cancel()
    feed.thread.join(10)
    assert isinstance(feed.raised, Cancelled) and sink.closed == 1


class Starting(CollectSink):
    announcement = "here"

    def start(self):
        raise SinkError("the port is taken")


def test_the_first_start_fails_immediately_and_a_later_one_is_retried(quick):
    feed = Feed([Starting(), CollectSink()])
    feed.until(lambda: False)
    assert str(feed.raised) == "the port is taken" and not feed.runner.started and feed.replacements == 0
    sinks = [Fragile(1), Starting(), CollectSink()]
    later = Feed(sinks)
    later.until(lambda: len(sinks[2].frames) > 2)
    assert later.raised is None and later.runner.status()["failures"] == 2


def test_the_report_has_the_last_path_and_the_sums():
    first = SinkReport("a.partial.mkv", 3, 0, "writing failed")
    assert first.followed_by(SinkReport("b.mkv", 4, 100)) == SinkReport("b.mkv", 7, 100)


def test_metrics_and_summary_report_the_state_of_outputs(quick):
    sinks = [Fragile(1), CollectSink()]
    feed = Feed(sinks)
    feed.until(lambda: len(sinks[1].frames) > 2)
    status = feed.runner.status()
    text = prometheus_text({"roof": {"sinks": [status]}}).decode()
    for line in (
        'fusepipe_sink_failures_total{rig="roof",sink="memory"} 1.0',
        'fusepipe_sink_restarts_total{rig="roof",sink="memory"} 1.0',
        f'fusepipe_sink_missed_total{{rig="roof",sink="memory"}} {float(status["missed"])}',
        'fusepipe_sink_up{rig="roof",sink="memory"} 1.0',
    ):
        assert line in text.splitlines()
    assert sink_line({**status, "missed": 7}) == ("  sink memory: failed 1 time, restarted 1 time, missed 7 frames")
    permanent = {"sink": "a.mkv", "up": False, "failures": 1, "restarts": 0, "missed": 0, "error": "x"}
    assert sink_line(permanent) == "  sink a.mkv: failed 1 time, not restarted; down at the end"
