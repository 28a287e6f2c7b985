"""``fusepipe run --processes``: of several processes one is killed, has no port, or loses its parent."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.ports import free_port, free_ports
from helpers.rig_process import wait_for

pytestmark = [pytest.mark.serial, pytest.mark.slow, pytest.mark.timeout(900)]

STREET = "synthetic://street?band={}&pace=real&size=80x60&fps=5&duration=1h"
NAMES = ("attic", "roof")
START_S = 300.0  # of two processes on a busy machine


class SpreadRun:
    """A run of ``folder/rigs`` in two processes, with a page each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rigs = folder, folder / "rigs"
        self.rigs.mkdir()
        self.port = free_ports(len(NAMES))
        self.pages = [f"http://127.0.0.1:{self.port + number}" for number in range(len(NAMES))]

        for name in NAMES:
            cameras = [f'    {b}: {{url: "{STREET.format(b)}"}}\n' for b in ("infrared", "visible")]
            (self.rigs / f"{name}.yaml").write_text(
                f"schema: 1\nrigs:\n  {name}:\n{''.join(cameras)}    fusion: {{model: mean}}\n"
                f'    sinks: [{{images: "../out/{name}"}}]\n'
            )

    def start(self, *words: str) -> None:
        command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(self.rigs), "--processes=2", "--json"]
        with (self.folder / "log").open("w") as log, (self.folder / "out.json").open("w") as out:
            words = (f"--preview={self.pages[0]}", "--overwrite", *words)
            self.process = subprocess.Popen([*command, *words], stdout=out, stderr=log, start_new_session=True)

    def workers(self) -> dict[str, int]:
        """The processes of the rigs, by name."""
        found = {}
        for child in children_of(self.process):
            given = [w for w in command_line(child) if w.startswith("--name=")]
            found.update({word.removeprefix("--name="): child for word in given})
        return found

    def fused(self, page: str) -> float:
        """Pairs that the process of a page has fused."""
        try:
            with urllib.request.urlopen(f"{page}/metrics", timeout=15) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0
        return sum(float(line.split()[-1]) for line in lines if line.startswith("fusepipe_pairs_total"))

    def wait_until_fused(self, page: str, more_than: float = 2) -> None:
        wait_for(lambda: self.fused(page) > more_than, self.folder, START_S)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def document(self) -> dict[str, Any]:
        return json.loads((self.folder / "out.json").read_text())  # type: ignore[no-any-return]


def children_of(process: subprocess.Popen[Any]) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def command_line(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return []


@pytest.fixture
def run(tmp_path: Path) -> Iterator[SpreadRun]:
    run = SpreadRun(tmp_path)
    yield run
    run.process.kill()  # its processes end with it
    run.process.wait(timeout=20)


def test_a_killed_process_comes_back_and_the_other_does_not_notice(run: SpreadRun) -> None:
    run.start()
    for page in run.pages:
        run.wait_until_fused(page)
    before = run.workers()
    assert set(before) == set(NAMES)
    os.kill(before["roof"], signal.SIGKILL)
    wait_for(lambda: run.workers().get("roof", before["roof"]) != before["roof"], run.folder, START_S)
    run.wait_until_fused(run.pages[1])
    assert run.workers()["attic"] == before["attic"]
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(timeout=300) == 0, run.log
    found = run.document()
    assert (found["ok"], [report["rig"] for report in found["rigs"]]) == (True, list(NAMES))
    assert [(p["rigs"], p["restarts"]) for p in found["processes"]] == [(["attic"], 0), (["roof"], 1)]
    assert "process 2 (roof) was killed by SIGKILL; starting again" in run.log
    for name in ("roof", "roof.2"):  # what the killed process wrote is not overwritten
        assert (run.folder / "out" / name / "000000.png").is_file()
    assert "[2] roof: preview on" in run.log and "fusepipe: stopped by SIGTERM" in run.log
    assert not any("end_with_parent" in " ".join(command_line(one)) for one in before.values())


def test_no_process_is_left_when_the_one_that_started_them_is_killed(run: SpreadRun) -> None:
    run.start()
    for page in run.pages:
        run.wait_until_fused(page)
    workers = run.workers()
    run.process.kill()
    run.process.wait(timeout=20)
    wait_for(lambda: not any(command_line(one) for one in workers.values()), run.folder, START_S)
    assert [name for name, worker in workers.items() if command_line(worker)] == []
    assert set(workers) == set(NAMES), "both ran before"


def test_a_port_in_use_concerns_one_process_and_the_run_ends_by_itself_with_its_error(run: SpreadRun) -> None:
    with socket.create_server(("127.0.0.1", run.port + 1)):
        run.start("--max-pairs=3")
        assert run.process.wait(timeout=300) == 5, run.log
    found = run.document()
    assert not found["ok"] and [error["type"] for error in found["errors"]] == ["SinkError"]
    reports = {report["rig"]: report for report in found["rigs"]}
    assert sum(reports["attic"]["pairs"].values()) == 3
    assert str(run.port + 1) in reports["roof"]["error"]
    assert "process 2 (roof) ended with exit code 5; starting again" in run.log


def test_rigs_on_one_page_run_in_one_process(tmp_path: Path) -> None:
    rigs = SpreadRun(tmp_path).rigs
    page = f"http://127.0.0.1:{free_port()}"
    for file in rigs.iterdir():
        unpaced = file.read_text().replace("pace=real&", "")  # so that no frame is late on a busy machine
        file.write_text(unpaced.replace("sinks: [", f'sinks: [{{preview: "{page}"}}, '))
    command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(rigs), "--processes=2", "--max-pairs=1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "fusepipe: 1 process instead of 2: rigs that serve on one port stay together" in ended.stderr
    assert "[1]" not in ended.stderr and all(f"{name}: 1 pair" in ended.stdout for name in NAMES)


SIGNALS = """\
import json, sys
from fusepipe.config.schema import Rig
from fusepipe.rig.process import run_workers
run_workers.STOP_S = float(sys.argv[1])
url = "synthetic://street?pace=real"
shares = [
    [Rig.model_validate({"name": name, "infrared": {"url": url}, "visible": {"url": url}, "sinks": [{"images": name}]})]
    for name in ("attic", "roof")
]
outcome = run_workers.run_workers(shares, [[sys.executable, "-c", program] for program in sys.argv[2:]])
codes = [worker.exit_code for worker in outcome.workers]
print(json.dumps([outcome.exit_code, codes, [str(error) for error in outcome.errors]]))
"""
SAYS = "import signal, sys, time\nsay = lambda word: print(word, file=sys.stderr, flush=True)\n"
READY = """\
import os, socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b'READY=1\\nSTATUS=runs', os.environ['NOTIFY_SOCKET'])
"""
WAITS = "say('waits'); time.sleep(300)"
ENDS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"


class SignalRun:
    """Two small programs as the processes of a run, which is a process of its own."""

    def __init__(self, folder: Path, stop_s: float, programs: Sequence[str]) -> None:
        self.folder = folder
        with (folder / "log").open("w") as log:
            command = [sys.executable, "-c", SIGNALS, str(stop_s), *programs]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def __enter__(self) -> SignalRun:
        try:
            self.wait_for("waits")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*children_of(self.process), self.process.pid] if self.process.poll() is None else []:
            os.kill(one, signal.SIGKILL)
        self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, word: str) -> None:
        """Until both have logged a word."""
        logged = [f"[{number}] {word}\n" for number in (1, 2)]
        wait_for(lambda: all(line in (self.folder / "log").read_text() for line in logged), self.folder, START_S)

    def ended(self) -> tuple[int, list[int], list[str]]:
        out, _ = self.process.communicate(timeout=START_S)
        code, codes, errors = json.loads(out)
        return code, codes, errors


def test_what_does_not_end_after_the_stop_signal_is_killed_and_is_an_error(tmp_path: Path) -> None:
    deaf = f"{SAYS}signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
    with SignalRun(tmp_path, 2.0, [deaf, f"{SAYS}{ENDS}{WAITS}"]) as run:
        run.process.send_signal(signal.SIGTERM)
        ended = run.ended()
    assert ended == (1, [-signal.SIGKILL, 0], ["process 1 (attic) did not end within 2 s"])


def test_each_process_reloads_and_each_hears_the_second_stop_signal(tmp_path: Path) -> None:
    reloads = "signal.signal(signal.SIGHUP, lambda *_: say('reloads'))\n"
    heard = "lambda *_: sys.exit(130) if seen else (seen.append(1), say('drains'))"
    twice = f"seen = []\nsignal.signal(signal.SIGINT, {heard})\n"
    with SignalRun(tmp_path, 600.0, [f"{SAYS}{reloads}{twice}{READY}{WAITS}"] * 2) as run:
        run.process.send_signal(signal.SIGHUP)
        run.wait_for("reloads")
        run.process.send_signal(signal.SIGINT)
        run.wait_for("drains")
        run.process.send_signal(signal.SIGINT)
        ended = run.ended()
    assert ended == (130, [130, 130], [])


def test_the_service_manager_hears_of_the_run_also_while_none_of_its_processes_is_ready_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is ready once and is killed; the other never is."""
    once = f"import pathlib; first = pathlib.Path({str(tmp_path / 'first')!r})\n"
    ready = f"{once}if not first.exists():\n    first.touch()\n{textwrap.indent(READY, '    ')}"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(START_S)

        def until(*wanted: str) -> list[str]:
            """What is received until there is something with each of these beginnings."""
            received: list[str] = []
            while not all(any(text.startswith(word) for text in received) for word in wanted):
                received.append(listening.recv(4096).decode())
            return received

        with SignalRun(tmp_path, 20.0, [f"{SAYS}{ready}{ENDS}{WAITS}", f"{SAYS}{ENDS}{WAITS}"]) as run:
            until("READY=1\nSTATUS=runs; ", "WATCHDOG=1")
            while select.select([listening], [], [], 0)[0]:  # a full queue would lose what follows
                listening.recv(4096)
            os.kill(children_of(run.process)[0], signal.SIGKILL)
            until("STATUS=restarting attic; starting roof")
            alive = until("WATCHDOG=1")
            run.process.send_signal(signal.SIGTERM)
            stopping = until("STOPPING=1")
            ended = run.ended()
    assert not any(text.startswith("READY") for text in (*alive, *stopping)), "none is ready again"
    assert (ended[0], ended[2]) == (0, []), "what was killed before does not make stopping a service a failure"
