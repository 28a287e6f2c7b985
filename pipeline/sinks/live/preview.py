"""The page for a browser: what the rig sees now, and how it does."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.servers.addresses import is_loopback, url_host
from fusepipe.pipeline.servers.shared_servers import SharedServers
from fusepipe.pipeline.servers.web.rig_view import Record, RigView
from fusepipe.pipeline.servers.web.server import WebServer
from fusepipe.pipeline.sinks.base import SinkReport

SERVERS = SharedServers(WebServer)
MADE_UP_TOKEN = secrets.token_urlsafe(18)  # of this process, for pages that others reach and that have none


class WebPreviewSink:
    """Shows the newest frame to whoever looks; pictures are made only then. Rigs on one address share the page.

    ``record`` gives the run's record so far; ``live`` is false for recordings, whose frames may come at any speed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rig: str,
        record: Callable[[], Record],
        *,
        token: str | None = None,
        names: tuple[str, ...] = (),
        max_clients: int = 16,
        live: bool = False,
    ) -> None:
        self._host, self._port, self._rig = host, port, rig
        self._record = record
        self._token = token or ("" if is_loopback(host) else MADE_UP_TOKEN)
        self._names, self._max_clients, self._live = names, max_clients, live
        self._server: WebServer | None = None
        self._view: RigView | None = None
        self._frames = 0
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return f"http://{url_host(self._host)}:{self._port}"

    @property
    def announcement(self) -> str:
        """With the token where it was made up: then it is known from nowhere else."""
        shown = {"": "", MADE_UP_TOKEN: f"/?token={MADE_UP_TOKEN}"}
        return f"preview on {self.label}{shown.get(self._token, '/?token=... with the token of the rig file')}"

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        SERVERS.check(self._host, self._port, self.label)

    def start(self) -> None:
        if self._view is not None:
            return
        server = SERVERS.acquire(self._host, self._port, self.label)
        try:
            self._view = server.add(
                self._rig,
                self._record,
                token=self._token,
                names=self._names,
                max_clients=self._max_clients,
                live=self._live,
            )
        except ValueError as error:
            SERVERS.release(self._host, self._port)
            raise SinkError(f"{self.label}: {error}") from error
        self._server = server

    def write(self, frame: FusedFrame) -> None:
        self.start()
        assert self._view is not None
        self._view.show(frame)
        self._frames += 1

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        clients = 0
        if self._server is not None and self._view is not None:
            clients = self._view.clients_total
            self._server.remove(self._view)
            SERVERS.release(self._host, self._port)
        note = f"watched {clients} time{'s' if clients != 1 else ''}"
        self._report = SinkReport(self.label, self._frames, 0, note)
        return self._report
