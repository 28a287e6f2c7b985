"""The preview page: live frames, state and statistics of a rig in a browser."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.rig_state import RigStatus
from fusepipe.core.text import counted
from fusepipe.core.view_settings import PLAIN, ViewSettings
from fusepipe.pipeline.servers.addresses import is_loopback, url_host
from fusepipe.pipeline.servers.certificate import CertificateFiles
from fusepipe.pipeline.servers.shared_servers import SharedServers
from fusepipe.pipeline.servers.web.access import PageAccess
from fusepipe.pipeline.servers.web.alignment import AlignmentControl
from fusepipe.pipeline.servers.web.ice import IceServer
from fusepipe.pipeline.servers.web.rig_view import Record, RigView
from fusepipe.pipeline.servers.web.server import WebServer
from fusepipe.pipeline.servers.web.users import PageUser
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.live.network_sink import NetworkSink

SERVERS = SharedServers(WebServer)
GENERATED_TOKEN = secrets.token_urlsafe(18)  # of this process, for pages without one that others can reach


def _access(host: str, token: str | None, users: tuple[PageUser, ...], names: tuple[str, ...]) -> PageAccess:
    """Who may use a page: on other addresses than loopback there are always users or a token."""
    generated = "" if users or is_loopback(host) else GENERATED_TOKEN
    return PageAccess(token or generated, users, frozenset(names))


def _announcement(label: str, access: PageAccess) -> str:
    """How to enter a page; shows a generated token, which is not known from anywhere else."""
    if access.users:
        return f"preview on {label}/login, for {counted(len(access.users), 'user')} of the rig file"
    shown = {"": "", GENERATED_TOKEN: f"/?token={GENERATED_TOKEN}"}
    return f"preview on {label}{shown.get(access.token, '/?token=... with the token of the rig file')}"


def _url(host: str, port: int, tls: CertificateFiles | None) -> str:
    return f"{'http' if tls is None else 'https'}://{url_host(host)}:{port}"


class PreviewStatus:
    """Lists a rig on a preview page from before it starts until after it has ended.

    Its frames come from its :class:`WebPreviewSink`, which exists only while the rig runs. ``status`` may be called
    from any thread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rig: str,
        status: Callable[[], RigStatus],
        *,
        token: str | None = None,
        users: tuple[PageUser, ...] = (),
        names: tuple[str, ...] = (),
        tls: CertificateFiles | None = None,
    ) -> None:
        self._host, self._port, self._rig = host, port, rig
        label = _url(host, port, tls)
        access = _access(host, token, users, names)
        self.announcement = _announcement(label, access)
        try:
            SERVERS.attach(host, port, label, lambda page: page.add_status(rig, status, access=access), tls)
        except ValueError as error:
            raise SinkError(f"{label}: {error}") from error

    def close(self) -> None:
        """Removes the rig; the last one closes the page."""
        SERVERS.detach(self._host, self._port, lambda page: page.remove_status(self._rig))


class WebPreviewSink(NetworkSink):
    """Serves the newest frame; images are encoded only while there are viewers. Rigs on one address share the page.

    ``record`` returns the run's record so far; ``live`` is false for recordings, which are not limited to real time;
    ``tls`` serves HTTPS, ``ice_servers`` are for its WebRTC video; viewers begin
    with ``view``; operators may move the infrared image by ``alignment``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rig: str,
        record: Callable[[], Record],
        *,
        token: str | None = None,
        users: tuple[PageUser, ...] = (),
        names: tuple[str, ...] = (),
        max_clients: int = 16,
        live: bool = False,
        tls: CertificateFiles | None = None,
        ice_servers: tuple[IceServer, ...] = (),
        view: ViewSettings = PLAIN,
        alignment: AlignmentControl | None = None,
    ) -> None:
        self._host, self._port, self._rig, self._tls = host, port, rig, tls
        self._record = record
        self._access = _access(host, token, users, names)
        self._max_clients, self._live, self._ice_servers, self._first_view = max_clients, live, ice_servers, view
        self._alignment = alignment
        self._view: RigView | None = None
        self._frames = 0

    @property
    def label(self) -> str:
        return _url(self._host, self._port, self._tls)

    @property
    def announcement(self) -> str:
        return _announcement(self.label, self._access)

    def check(self) -> None:
        SERVERS.check(self._host, self._port, self.label)

    def start(self) -> None:
        if self._view is not None:
            return
        try:
            self._view = SERVERS.attach(self._host, self._port, self.label, self._add, self._tls)
        except ValueError as error:
            raise SinkError(f"{self.label}: {error}") from error

    def _add(self, server: WebServer) -> RigView:
        return server.add(
            self._rig,
            self._record,
            access=self._access,
            max_clients=self._max_clients,
            live=self._live,
            ice_servers=self._ice_servers,
            view=self._first_view,
            alignment=self._alignment,
        )

    def write(self, frame: FusedFrame) -> None:
        self.start()
        assert self._view is not None
        self._view.show(frame)
        self._frames += 1

    def _finish(self) -> SinkReport:
        viewers = 0
        if (view := self._view) is not None:
            viewers = view.clients_total
            SERVERS.detach(self._host, self._port, lambda server: server.remove(view))
        return SinkReport(self.label, self._frames, 0, counted(viewers, "viewer"))
