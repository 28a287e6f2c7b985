"""A process that runs some of the rigs of a run: its start, its log, whether it responds, its end, its restart.

It is an ordinary ``fusepipe run`` of these rigs. To it the process that started it is what systemd is to a service: it
says when it is ready, what it does, and that it is alive (:mod:`fusepipe.rig.process.systemd`).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, SinkError, SourceError
from fusepipe.core.units import S
from fusepipe.pipeline.backoff import RIG_START, Backoff

log = logging.getLogger(__name__)

WATCHDOG_S = 60.0  # as in the units of docs/deployment/systemd
START_S = 600.0  # the same before it is ready, since it may compile an engine
MAX_DATAGRAM_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 16  # a longer line of the log is relayed in parts
MAX_READS = 64  # of the log and of the notifications at a time, so that one process cannot keep the others waiting
# A camera, the network, a port or a disk may recover; 1 is what nobody foresaw
RETRIED = (FusepipeError.exit_code, SourceError.exit_code, SinkError.exit_code)


RESTARTED = "--restarted"  # what the processes before have written is kept


class RigWorker:
    """Process ``number``, from 1, which runs ``rigs``.

    ``command`` starts it, without ``--name``; ``folder`` is for its socket; ``relay`` gets each line of its log.
    Rigs that read recordings only are not started again: their outputs exist. What live ones have written is kept:
    once they ran, ``RESTARTED`` is added to the command. Times are seconds of a monotonic clock.
    """

    def __init__(
        self, number: int, rigs: Sequence[Rig], command: Sequence[str], folder: Path, relay: Callable[[str], None]
    ) -> None:
        self.number, self.rigs = number, rigs
        self.process: subprocess.Popen[bytes] | None = None  # while it runs
        self.exit_code: int | None = None  # of its last end; negative: the signal that killed it
        self.restarts = 0
        self.failure = ""  # how it last failed
        self.ready, self.status = False, ""  # of the running process
        self.output = ""  # what it printed on standard output until its last end
        self.retry_s: float | None = None
        self.stopping = False
        self._reload_when_ready = False
        self._has_run = False  # and may have written files
        self.ended_before_stop = False  # what failed before does not make stopping a service a failure
        self._command = [*command, *(f"--name={rig.name}" for rig in rigs)]
        self._relay = relay
        self._backoff = Backoff(RIG_START)
        self._started_s = self._heard_s = 0.0
        self._partial = b""
        self._out: IO[bytes] | None = None
        self._address = folder / f"{number}.socket"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notified.bind(str(self._address))
        self._notified.setblocking(False)

    @property
    def label(self) -> str:
        names = [rig.name for rig in self.rigs]
        return f"process {self.number} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"

    @property
    def waited_for(self) -> list[Any]:
        """What becomes readable when the running process says something."""
        return [] if self.process is None else [self._notified, self.process.stderr]

    @property
    def crashed(self) -> bool:
        """Whether it was last ended by a signal that nobody here meant for it."""
        return self.exit_code is not None and self.exit_code < 0 and not self.stopping

    @property
    def died(self) -> bool:
        """Whether its last end was that of a signal, and not of the one with which it was stopped."""
        wanted = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP) if self.stopping else ()
        killed = self.exit_code is not None and self.exit_code < 0 and self.exit_code not in wanted
        return killed and not self.ended_before_stop

    def start(self, now_s: float) -> None:
        """Starts it; raises ``OSError`` if the system has no process or file left."""
        self.retry_s, self.ready, self.status, self._partial = None, False, "", b""
        self._reload_when_ready = False
        watchdog = {"NOTIFY_SOCKET": str(self._address), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        environ = {key: value for key, value in os.environ.items() if key != "WATCHDOG_PID"} | watchdog
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        try:
            # in a session of its own: the terminal's Ctrl-C reaches it once, from here
            self.process = subprocess.Popen(
                [*self._command, RESTARTED] if self._has_run else self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
        except OSError:
            self._out.close()
            raise
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self._started_s = self._heard_s = now_s

    def read(self, now_s: float) -> None:
        """Relays what it has logged, and takes its notifications."""
        for _ in range(MAX_READS):
            try:
                text = self._notified.recv(MAX_DATAGRAM_BYTES).decode(errors="replace")
            except BlockingIOError:
                break
            self._note(dict(line.split("=", 1) for line in text.splitlines() if "=" in line), now_s)
        if self.process is not None and self.process.stderr is not None:
            self._relay_log(self.process.stderr)

    def _note(self, said: dict[str, str], now_s: float) -> None:
        self._heard_s = now_s
        self.ready = self.ready or said.get("READY") == "1"
        self.status = said.get("STATUS", self.status)
        if self.ready and self._reload_when_ready:
            self._reload_when_ready = False
            self.send(signal.SIGHUP)

    def _relay_log(self, stream: IO[bytes]) -> None:
        for _ in range(MAX_READS):
            try:
                part = os.read(stream.fileno(), MAX_LINE_BYTES)
            except BlockingIOError:
                break
            if not part:
                break
            *lines, self._partial = (self._partial + part).split(b"\n")
            if len(self._partial) > MAX_LINE_BYTES:
                lines, self._partial = [*lines, self._partial], b""
            for line in lines:
                self._relay(line.decode(errors="replace"))

    def advance(self, now_s: float, *, others_run: bool) -> None:
        """Notes its end, ends it if it does not respond, or starts it again when that is due."""
        if self.process is None:
            if self.retry_s is not None and now_s >= self.retry_s and (others_run or self.crashed):
                self._restart(now_s)
            return
        if self.process.poll() is not None:
            self._note_end(now_s)
        elif now_s - self._heard_s > (WATCHDOG_S if self.ready else START_S):
            log.error("%s does not respond: killed", self.label)
            self.process.kill()
            self._heard_s = now_s

    def _restart(self, now_s: float) -> None:
        self.restarts += 1
        kept = "; what it has written is kept, new files get a number (name.2.mkv)" if self._has_run else ""
        log.info("%s: starting again%s", self.label, kept)
        try:
            self.start(now_s)
        except OSError as error:
            self._note_failure(f"cannot be started: {error.strerror}", now_s)

    def _note_end(self, now_s: float) -> None:
        assert self.process is not None and self.process.stderr is not None and self._out is not None
        self.read(now_s)
        if self._partial:
            self._relay(self._partial.decode(errors="replace"))
        self.process.stderr.close()
        self._out.seek(0)
        self.output = self._out.read().decode(errors="replace")
        self._out.close()
        self.exit_code, self.process = self.process.returncode, None
        killed = self.exit_code < 0
        # before it is ready, some of its rigs may run
        self._has_run = self._has_run or self.ready or killed
        self.ready, self.status = False, ""
        how = f"was killed by {signal_name(-self.exit_code)}" if killed else f"ended with exit code {self.exit_code}"
        if self.stopping and self.died:
            self.failure = self.failure or how
        elif self.exit_code and not self.stopping:
            self._backoff.delivered(round((now_s - self._started_s) * S))
            self._note_failure(how, now_s)

    def _note_failure(self, failure: str, now_s: float) -> None:
        self.failure = failure
        assert self.exit_code is not None
        recordings = all(rig.infrared.kind == rig.visible.kind == "path" for rig in self.rigs)
        if recordings or (self.exit_code > 0 and self.exit_code not in RETRIED):
            log.error("%s %s; not started again", self.label, failure)
            return
        wait_s = self._backoff.wait_ns(random.random()) / S
        self.retry_s = now_s + wait_s
        log.error("%s %s; starting again in %.1f s while others run", self.label, failure, wait_s)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal if it runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def reload(self) -> None:
        """Has it reload its rigs, once it is ready: before, it may have read the file, and SIGHUP may end it."""
        if self.ready:
            self.send(signal.SIGHUP)
        else:
            self._reload_when_ready = self.process is not None

    def stop(self, number: signal.Signals) -> None:
        """Has it end: it drains the first time, the second time it aborts. It is not started again."""
        self.ended_before_stop = self.ended_before_stop or (not self.stopping and self.process is None)
        self.stopping, self.retry_s = True, None
        self.send(number)

    def close(self) -> None:
        """Ends it immediately if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._note_end(0.0)
        self._notified.close()


def signal_name(number: int) -> str:
    """Such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
