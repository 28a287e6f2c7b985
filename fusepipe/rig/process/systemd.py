"""Service notifications to systemd: ready, reloading, stopping, watchdog (``sd_notify(3)``, ``Type=notify``).

The protocol is one datagram to the socket in ``NOTIFY_SOCKET``, so no library is needed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Sends notifications where systemd started the process; does nothing elsewhere.

    ``alive`` pings the watchdog at half its interval; time in seconds of any monotonic clock is passed in.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" is the abstract namespace
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = environ.get("WATCHDOG_USEC", "") if mine else ""
        self.watchdog_s = int(wanted) / 1e6 if wanted.isdigit() and int(wanted) else None
        self._pinged_s: float | None = None

    def ready(self, status: str) -> None:
        """The service has started; ``status`` is the line that ``systemctl status`` shows."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Replaces the line that ``systemctl status`` shows."""
        self._send(f"STATUS={status}")

    def reloading(self, monotonic_ns: int) -> None:
        """The configuration is being reloaded; :meth:`ready` ends it (``Type=notify-reload``)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self, now_s: float) -> None:
        """Watchdog ping; call it every poll while healthy. systemd restarts a service that stops sending."""
        if self.watchdog_s is None or (self._pinged_s is not None and now_s - self._pinged_s < self.watchdog_s / 2):
            return
        self._pinged_s = now_s
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(text.encode(), self._address)
        except OSError as error:  # not fatal
            log.warning("systemd: cannot send %r: %s", text.split("\n")[0], error.strerror)


class StallDetector:
    """Whether a pipeline's output has stalled: no new frame for more than ``limit_s``."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._count = -1
        self._changed_s = 0.0

    def stalled(self, count: int, now_s: float) -> bool:
        """``count``: frames so far; ``now_s``: seconds of a monotonic clock."""
        if count != self._count:
            self._count, self._changed_s = count, now_s
        return now_s - self._changed_s > self._limit_s
