"""A TURN server on the loopback: coturn, with one user."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.ports import free_port
from helpers.waiting import wait_for

from fusepipe.pipeline.servers.web.ice import IceServer

HOST = "127.0.0.1"
USER, PASSWORD = "viewer", 'hunter2"\\, <x>'  # what has to be quoted in a header


class TurnServer:
    """``server`` names it for both transports; ``log`` is what it has written so far."""

    def __init__(self, port: int, log: Path) -> None:
        self._log = log
        self.server = IceServer((f"turn:{HOST}:{port}", f"turn:{HOST}:{port}?transport=tcp"), USER, PASSWORD)
        self.tcp_only = IceServer((f"turn:{HOST}:{port}?transport=tcp",), USER, PASSWORD)
        self.stun = IceServer((f"stun:{HOST}:{port}",))

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def allocations(self) -> int:
        """How many relayed addresses clients were given so far."""
        return len(re.findall(r"ALLOCATE processed, success", self.log))


@contextmanager
def turn_server(folder: Path) -> Iterator[TurnServer]:
    """Skips where coturn is not installed."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("no TURN server (apt-get install coturn)")
    port, log = free_port(), folder / "turn.log"
    command = [program, "-n", "-L", HOST, "-E", HOST, "-p", str(port), "--no-tls", "--no-dtls", "--no-cli", "-v"]
    command += ["-a", "-u", f"{USER}:{PASSWORD}", "-r", "test", "--allow-loopback-peers", "--no-multicast-peers"]
    command += ["-b", str(folder / "turn.db"), "--pidfile", str(folder / "turn.pid"), "-l", "stdout", "-m", "1"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_for(lambda: _listens(port) or process.poll() is not None, why=log.read_text)
            assert process.poll() is None, log.read_text()
            yield TurnServer(port, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
