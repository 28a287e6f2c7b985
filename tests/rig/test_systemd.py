"""The notify protocol against a socket of our own, as systemd listens on."""

import os
import socket
import subprocess
import sys

from fusepipe.rig.process.systemd import ServiceManager, StallDetector

RIG = """
schema: 1
rigs:
  roof:
    infrared: {url: "synthetic://street?size=80x60&duration=2s&pace=real"}
    visible: {url: "synthetic://street?size=160x120&duration=2s&pace=real"}
    fusion: {model: mean}
    sinks: [{file: a.mkv}]
"""


def listener(path):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(5)
    return made


def received(listening):
    listening.setblocking(False)
    texts = []
    while True:
        try:
            texts.append(listening.recv(4096).decode())
        except BlockingIOError:
            return texts


def test_the_watchdog_is_pinged_at_half_its_interval(tmp_path):
    with listener(tmp_path / "notify") as listening:
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
        manager.ready("running roof")
        for tenth in range(31):
            manager.alive(tenth / 10)
        manager.stopping()
        assert received(listening) == ["READY=1\nSTATUS=running roof", *["WATCHDOG=1"] * 4, "STOPPING=1"]


def test_without_systemd_nothing_is_sent_and_a_lost_socket_is_not_an_error(tmp_path, caplog):
    ServiceManager({}).ready("x")
    assert caplog.text == ""
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")
    assert "systemd: cannot send 'READY=1'" in caplog.text
    other = ServiceManager({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid() + 1)})
    assert other.watchdog_s is None, "the watchdog of another process"


def test_a_stalled_output_is_detected():
    output = StallDetector(limit_s=5)
    counts = [0, 1, 2, 2, 2, 2, 2, 2, 2, 3]
    assert [output.stalled(count, s) for s, count in enumerate(counts)] == [False] * 8 + [True, False]


def test_a_run_tells_systemd(tmp_path):
    (tmp_path / "rigs.yaml").write_text(RIG)
    with listener(tmp_path / "notify") as listening:
        environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        environ.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(tmp_path / "rigs.yaml")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        texts = received(listening)
    assert texts[0] == "READY=1\nSTATUS=running roof" and texts.count("WATCHDOG=1") >= 3
    assert "roof: fused" in done.stderr, "the state is logged, with the time"
