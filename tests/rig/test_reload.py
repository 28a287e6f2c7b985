"""SIGHUP: a running process reloads its rig file, applies what can change and names the rest."""

import os
import pty
import re
import signal
import socket
import sys
import time

import pytest
from helpers.rig_process import RigProcesses, wait_for

from fusepipe.config.rig_file import load_rig_file
from fusepipe.core.errors import UsageError
from fusepipe.rig.settings.changes import apply_changes, changed_keys

RIG = """
schema: 1
rigs:
  r:
    infrared: {url: "synthetic://street?size=80x60&duration=1000s&pace=real", latency: 10ms}
    visible: {url: "synthetic://street?size=160x120&duration=1000s&pace=real"}
    sync: {tolerance: 20ms}
    registration: {calibration: "synthetic://street"}
    fusion: {model: mean}
    sinks: [{file: "%Y-%m-%d_%H-%M-%S.mkv", segment: 1h, max_total: 1GB}]
"""


def rig_of(tmp_path, text):
    (tmp_path / "rigs.yaml").write_text(text)
    return load_rig_file(tmp_path / "rigs.yaml").select()[0]


def edited(*edits):
    text = RIG
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    return text


def test_what_differs_is_named_by_its_key(tmp_path):
    old = rig_of(tmp_path, RIG)
    new = rig_of(
        tmp_path,
        edited(("tolerance: 20ms", "tolerance: 25ms, max_hold: 2s"), ("size=80x60", "size=88x66"), ("1GB", "2GB")),
    )
    keys = [".".join(map(str, path)) for path in changed_keys(old, new)]
    assert keys == ["infrared.url", "sync.tolerance", "sync.max_hold", "sinks.0.max_total"]
    more = rig_of(tmp_path, edited(("sinks: [", "sinks: [{images: out}, ")))
    assert list(changed_keys(old, more)) == [("sinks",)]
    other = rig_of(tmp_path, RIG.split("    sinks:")[0] + "    sinks: [{images: out}]\n")
    assert list(changed_keys(old, other)) == [("sinks", 0)]
    assert list(changed_keys(old, old)) == []


def test_each_key_is_applied_or_refused_on_its_own(tmp_path):
    old = rig_of(tmp_path, RIG)
    new = rig_of(tmp_path, edited(("20ms", "25ms, offset: -15ms"), ("model: mean", "model: max"), ("1h", "10min")))
    given = []

    def refuse(rig):
        raise UsageError("not here")

    setters = {"sync.tolerance": given.append, "sync.offset": refuse, "sinks[0].segment": given.append}
    running, lines = apply_changes(old, new, setters)
    assert lines == [
        "r: sync.tolerance: is now 25ms",
        "r: sync.offset: keeps its old value: not here",
        "r: fusion.model: keeps its old value until a restart",
        "r: sinks[0].segment: is now 10min",
    ]
    assert [rig.sync.tolerance_ns for rig in given] == [25_000_000] * 2
    assert (running.sync.tolerance_ns, running.sync.offset_ns, running.fusion.model) == (25_000_000, 0, "mean")
    again, lines = apply_changes(running, new, setters)
    assert again == running and len(lines) == 2, "what was refused is said each time"


# -- a process: starting one takes seconds, on a machine that is busy a minute


@pytest.fixture
def process(tmp_path):
    """Starts a run whose recording has begun; what it says is in ``log``."""
    processes = RigProcesses(tmp_path)

    def start(text=RIG, **options):
        made = processes.start(text, **options)
        wait_for(lambda: list(tmp_path.glob("*.partial.mkv")), tmp_path)
        return made

    yield start
    processes.close()


def reloaded(running, tmp_path, text, last):
    """Writes the file, sends SIGHUP, and gives what the process says about it, up to the line with ``last``."""
    before = (tmp_path / "log").read_text()
    (tmp_path / "rigs.yaml").write_text(text)
    running.send_signal(signal.SIGHUP)
    wait_for(lambda: last in (tmp_path / "log").read_text()[len(before) :], tmp_path)
    said = (tmp_path / "log").read_text()[len(before) :]
    return [line.partition(" reload: ")[2] for line in said.splitlines() if " reload: " in line]


@pytest.mark.timeout(240)
def test_a_running_rig_applies_what_it_can_and_names_the_rest(process, tmp_path):
    running = process()
    text = edited(
        ("latency: 10ms", "latency: 12ms"),
        ("tolerance: 20ms", "tolerance: 30ms, on_missing: single"),
        ('calibration: "synthetic://street"', 'calibration: "synthetic://street", plane_distance: 30m'),
        ("model: mean", "model: max"),
        ("segment: 1h, max_total: 1GB", "segment: 500ms, max_total: 1MB, quality: 30"),
    )
    assert reloaded(running, tmp_path, text, "sinks[0].max_total") == [
        "r: infrared.latency: is now 12ms",
        "r: sync.tolerance: is now 30ms",
        "r: sync.on_missing: is now single",
        "r: registration.plane_distance: keeps its old value: plane_distance: synthetic://street has one plane only; "
        "omit it",
        "r: fusion.model: keeps its old value until a restart",
        "r: sinks[0].quality: applied; this output restarts",
        "r: sinks[0].segment: is now 500ms",
        "r: sinks[0].max_total: is now 1MB",
    ]
    wait_for(lambda: len(list(tmp_path.glob("*.jsonl"))) >= 3, tmp_path)  # segments of half a second now
    said = reloaded(running, tmp_path, text.replace("1000s&pace=real", "9s&pace=real"), "visible.url")
    assert [line for line in said if "url" in line] == [
        "r: infrared.url: keeps its old value until a restart",
        "r: visible.url: keeps its old value until a restart",
    ], "and nothing of what a URL holds"
    wrong = text.replace("tolerance: 30ms", "tolerence: 30ms")
    said = reloaded(running, tmp_path, wrong, "no rig was changed")
    assert said[0].endswith("rigs.r.sync.tolerence: unknown key (did you mean 'tolerance'?)")
    (tmp_path / "rigs.yaml").unlink()
    running.send_signal(signal.SIGHUP)
    wait_for(lambda: (tmp_path / "log").read_text().count("no rig was changed") == 2, tmp_path)
    assert reloaded(running, tmp_path, RIG.replace("  r:", "  other:"), "not running") == [
        "r: no longer in the file; keeps its old settings until a restart",
        "other: not running: needs a restart",
    ]
    back = edited(("latency: 10ms", "latency: 12ms"), ("20ms", "30ms, on_missing: single"), ("1h", "500ms"))
    back = back.replace("1GB", "1MB, quality: 30")
    assert reloaded(running, tmp_path, back, "no changes") == ["no changes"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not list(tmp_path.glob("*.partial.*"))


@pytest.mark.timeout(240)
def test_systemd_is_notified_of_a_whole_life_in_order(process, tmp_path):
    """As ``Type=notify-reload`` with a watchdog wants it: ready, reloading with the time, ready again, stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        received = []

        def until(*words):
            while received[-len(words) :] != list(words):
                received.append(listening.recv(4096).decode())

        environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "500000"}
        environ.pop("WATCHDOG_PID", None)
        running = process(env=environ)
        until("WATCHDOG=1", "WATCHDOG=1")
        before_us = time.monotonic_ns() // 1000
        running.send_signal(signal.SIGHUP)
        until("READY=1\nSTATUS=running r", "WATCHDOG=1")
        after_us = time.monotonic_ns() // 1000
        running.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        assert running.wait(timeout=30) == 0
    ready, pings = r"READY=1\nSTATUS=running r\0", r"(?:WATCHDOG=1\0)+"
    reload = r"RELOADING=1\nMONOTONIC_USEC=(\d+)\0"
    life = re.fullmatch(f"{ready}{pings}{reload}{ready}{pings}STOPPING=1\0", "".join(f"{text}\0" for text in received))
    assert life is not None, received
    assert before_us <= int(life[1]) <= after_us


@pytest.mark.timeout(240)
def test_a_terminal_that_is_closed_ends_the_run_and_finalises_its_files(tmp_path):
    """SIGHUP because the terminal closed is not a request to reload."""
    (tmp_path / "rigs.yaml").write_text(RIG)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "fusepipe", "run", "--rig", str(tmp_path / "rigs.yaml")])
    try:
        (tmp_path / "log").write_text("")
        wait_for(lambda: list(tmp_path.glob("*.partial.mkv")), tmp_path)
        os.kill(pid, signal.SIGHUP)  # the terminal still exists: a reload
        seen = b""
        deadline = time.monotonic() + 30
        while b"no changes" not in seen and time.monotonic() < deadline:
            seen += os.read(terminal, 4096)
        assert b"no changes" in seen
    finally:
        os.close(terminal)
    status = None
    deadline = time.monotonic() + 30
    while status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert not list(tmp_path.glob("*.partial.*")) and list(tmp_path.glob("*.mkv"))
    assert status >= 0, "it ended without SIGKILL"
