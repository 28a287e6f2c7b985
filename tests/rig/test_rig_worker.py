"""One process of several that share rigs: small programs instead of ``fusepipe run``, times passed in."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.waiting import wait_for

from fusepipe.config.schema import Rig
from fusepipe.rig.process.rig_worker import START_S, WATCHDOG_S, RigWorker

pytestmark = pytest.mark.serial

NOTIFY = """\
import os, socket, sys, time
said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
said.connect(os.environ["NOTIFY_SOCKET"])
said.send(b"READY=1\\nSTATUS=running " + sys.argv[1].encode())
"""
SLEEP = "import time; time.sleep(100)"


def rig(name: str, url: str) -> Rig:
    return Rig.model_validate(
        {"name": name, "infrared": {"url": url}, "visible": {"url": url}, "sinks": [{"images": f"out/{name}"}]}
    )


LIVE, RECORDED = rig("roof", "synthetic://street?pace=real"), rig("roof", "clip.mkv")
Make = Callable[..., RigWorker]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, lines: list[str]) -> Iterator[Make]:
    made: list[RigWorker] = []

    def one(program: str, rig: Rig = LIVE) -> RigWorker:
        made.append(RigWorker(len(made) + 1, [rig], [sys.executable, "-c", program], tmp_path, lines.append))
        made[-1].start(0.0)
        return made[-1]

    yield one
    for worker in made:
        worker.close()


def ended(worker: RigWorker, now_s: float = 0.0) -> None:
    """Waits until it has noted its end."""

    def noted() -> bool:
        worker.read(now_s)
        worker.advance(now_s, others_run=True)
        return worker.process is None

    wait_for(noted, 60)


def test_its_log_status_output_and_exit_code_are_taken(make: Make, lines: list[str]) -> None:
    said = "print('out'); sys.stderr.write('first\\nsecond without an end'); sys.stderr.flush()"
    worker = make(f"{NOTIFY}\n{said}")

    def ready() -> bool:
        worker.read(0.0)
        return worker.ready

    wait_for(ready, 60)
    assert worker.status == "running --name=roof"
    ended(worker)
    assert (worker.output, lines) == ("out\n", ["first", "second without an end"])
    assert (worker.exit_code, worker.failure, worker.retry_s) == (0, "", None)


def test_a_reload_waits_until_it_is_ready_since_the_signal_would_end_it_before(make: Make, lines: list[str]) -> None:
    hears = "signal.signal(signal.SIGHUP, lambda *_: print('reloads', file=sys.stderr, flush=True))"
    waits = "print('starts', file=sys.stderr, flush=True); time.sleep(0.2)"
    worker = make(f"import signal\n{NOTIFY.replace('said = ', f'{waits}; {hears}; said = ')}\ntime.sleep(100)")
    worker.reload()

    def heard() -> bool:
        worker.read(0.0)
        worker.advance(0.0, others_run=True)
        return "reloads" in lines or worker.process is None

    wait_for(heard, 60)
    assert lines == ["starts", "reloads"] and worker.ready
    worker.reload()
    wait_for(lambda: (heard(), lines.count("reloads") == 2)[1], 60)


def test_one_that_is_killed_is_started_again_after_a_while_also_alone(make: Make) -> None:
    worker = make(SLEEP)
    worker.send(signal.SIGKILL)
    ended(worker, 5.0)
    assert worker.failure == "was killed by SIGKILL" and worker.died and worker.crashed
    assert worker.retry_s is not None and 6 <= worker.retry_s <= 6.25
    worker.advance(5.9, others_run=True)
    assert worker.process is None
    worker.advance(7.0, others_run=False)
    assert worker.process is not None and worker.restarts == 1
    worker.send(signal.SIGKILL)
    ended(worker, 8.0)
    assert worker.retry_s is not None and worker.retry_s >= 10, "it waits longer the second time"


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (f"{NOTIFY}\nraise SystemExit(5)", ["[]", "['--restarted']"]),
        ("import os; os.kill(os.getpid(), 9)", ["[]", "['--restarted']"]),
        ("raise SystemExit(5)", ["[]", "[]"]),
    ],
    ids=["ran", "killed", "never ran"],
)
def test_one_that_may_have_written_files_keeps_them_when_it_is_started_again(
    make: Make, lines: list[str], end: str, says: list[str]
) -> None:
    worker = make(f"import sys; sys.stderr.write(f'{{sys.argv[2:]}}\\n'); sys.stderr.flush()\n{end}")
    ended(worker)
    worker.advance(100.0, others_run=True)
    ended(worker, 100.0)
    assert worker.restarts == 1 and lines == says


@pytest.mark.parametrize(("code", "retried"), [(1, True), (2, False), (3, True), (4, False), (5, True)])
def test_what_cannot_recover_is_not_started_again(make: Make, code: int, retried: bool) -> None:
    worker = make(f"raise SystemExit({code})")
    ended(worker)
    assert worker.exit_code == code and (worker.retry_s is not None) == retried


def test_one_that_failed_by_itself_waits_for_others_to_run(make: Make) -> None:
    worker = make("raise SystemExit(3)")
    ended(worker)
    worker.advance(100.0, others_run=False)
    assert worker.process is None
    worker.advance(100.0, others_run=True)
    assert worker.process is not None


def test_recordings_are_not_started_again(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    worker = make(SLEEP, RECORDED)
    worker.send(signal.SIGKILL)
    ended(worker)
    assert worker.retry_s is None and worker.died
    assert "process 1 (roof) was killed by SIGKILL; not started again" in caplog.text


def test_one_that_does_not_respond_is_killed_sooner_once_ready(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    worker, unready = make(f"{NOTIFY}\n{SLEEP}"), make(SLEEP)

    def ready() -> bool:
        worker.read(0.0)
        return worker.ready

    wait_for(ready, 60)
    for one in (worker, unready):
        one.advance(WATCHDOG_S - 1, others_run=True)
        assert one.process is not None and one.process.poll() is None
        one.advance(WATCHDOG_S + 1, others_run=True)
    ended(worker, WATCHDOG_S + 2)
    assert worker.failure == "was killed by SIGKILL" and "process 1 (roof) does not respond: killed" in caplog.text
    assert (worker.ready, worker.status) == (False, ""), "what has ended is neither ready nor running"
    assert unready.process is not None and unready.process.poll() is None, "a start may take minutes"
    unready.advance(START_S + 1, others_run=True)
    ended(unready, START_S + 2)
    assert unready.failure == "was killed by SIGKILL"


def test_one_that_was_stopped_is_not_started_again_and_has_not_failed(make: Make) -> None:
    worker = make(SLEEP)
    worker.stop(signal.SIGTERM)
    ended(worker)
    assert (worker.exit_code, worker.retry_s, worker.failure, worker.died) == (-signal.SIGTERM, None, "", False)


def test_a_crash_before_the_stop_signal_is_no_failure_of_stopping(make: Make) -> None:
    worker = make(SLEEP)
    worker.send(signal.SIGKILL)
    ended(worker)
    assert worker.died
    worker.stop(signal.SIGTERM)
    worker.stop(signal.SIGTERM)
    assert (worker.died, worker.retry_s, worker.exit_code) == (False, None, -signal.SIGKILL)


def test_one_that_dies_while_it_is_stopped_has_failed(make: Make) -> None:
    worker = make(SLEEP)
    worker.stopping = True
    worker.send(signal.SIGKILL)
    ended(worker)
    assert worker.died and worker.failure == "was killed by SIGKILL" and worker.retry_s is None


def test_a_long_line_without_an_end_takes_bounded_memory(make: Make, lines: list[str]) -> None:
    worker = make("import sys; sys.stderr.write('x' * 1_000_000)")
    ended(worker)
    assert sum(map(len, lines)) == 1_000_000 and max(map(len, lines)) < 200_000
