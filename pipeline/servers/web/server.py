"""The HTTP server of the preview page: aiohttp in its own thread, several rigs on one page."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from aiohttp import web

from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.core.view_settings import PLAIN, ViewSettings
from fusepipe.pipeline.servers.admission import ConnectionLimits
from fusepipe.pipeline.servers.listener import Listener
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.tls import ServerTls
from fusepipe.pipeline.servers.web.access import PageAccess
from fusepipe.pipeline.servers.web.alignment import AlignmentControl, AlignmentRoutes
from fusepipe.pipeline.servers.web.gate import MAX_FORM_BYTES, Gate, admitted
from fusepipe.pipeline.servers.web.ice import IceServer
from fusepipe.pipeline.servers.web.page_files import page_files
from fusepipe.pipeline.servers.web.prometheus import prometheus_text
from fusepipe.pipeline.servers.web.protocol import HttpProtocol
from fusepipe.pipeline.servers.web.rig_view import Record, RigView
from fusepipe.pipeline.servers.web.users import record_for
from fusepipe.pipeline.servers.web.view_query import wanted_view
from fusepipe.pipeline.servers.web.whep import Whep

log = logging.getLogger(__name__)

START_S = 10.0
SEND_S = 10.0  # max time for a client to accept an image
MIN_BYTES_PER_S = 16_384  # of other responses, beyond SEND_S
LIMITS = ConnectionLimits(total=256, per_peer=128)  # a browser opens up to six
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" forms have no origin
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # without Strict-Transport-Security: browsers would apply it to all ports of the host, also to cameras without TLS
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Listens on ``host:port``; ``start`` raises ``OSError``. The rigs on the page say who may use it."""

    def __init__(self, host: str, port: int, tls: ServerTls | None = None) -> None:
        self.host, self.port = host, port
        self._tls = tls
        self.rigs: dict[str, RigView] = {}
        self._statuses: dict[str, Callable[[], RigStatus]] = {}
        self._settings: PageAccess | None = None
        self._gate = Gate(host, port, f"preview port {port}")
        self._thread = LoopThread(f"preview-{port}")
        self._executor: ThreadPoolExecutor | None = None
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._whep: Whep | None = None

    # -- any thread

    def start(self) -> None:
        self._thread.start()
        try:
            self._thread.call(self._listen(), START_S)
        except BaseException:
            self._thread.stop()
            raise

    def add(
        self,
        name: str,
        record: Callable[[], Record],
        *,
        access: PageAccess,
        max_clients: int,
        live: bool,
        ice_servers: tuple[IceServer, ...] = (),
        view: ViewSettings = PLAIN,
        alignment: AlignmentControl | None = None,
    ) -> RigView:
        """Adds the frames of a rig. Raises ``ValueError`` for a duplicate name or a different access."""
        if name in self.rigs:
            raise ValueError(f"a rig {name!r} is already on this page")
        self._restrict(access)
        self.rigs[name] = RigView(
            name, self._thread, record, max_clients, live=live, ice_servers=ice_servers, view=view, alignment=alignment
        )
        return self.rigs[name]

    def add_status(self, name: str, status: Callable[[], RigStatus], *, access: PageAccess) -> None:
        """Lists a rig from before it starts until after it has ended, whether it has frames or not.

        ``status`` is called in the event loop. Raises ``ValueError`` as :meth:`add` does.
        """
        if name in self._statuses:
            raise ValueError(f"a rig {name!r} is already on this page")
        self._restrict(access)
        self._statuses[name] = status

    def remove_status(self, name: str) -> None:
        self._statuses.pop(name, None)

    def _restrict(self, access: PageAccess) -> None:
        if self._settings is not None and (self.rigs or self._statuses):
            access = self._settings.joined(access)
        self._settings = access
        self._gate.restrict(access)

    def remove(self, rig: RigView) -> None:
        self.rigs.pop(rig.name, None)
        self._thread.post(rig.end)

    def stop(self) -> None:
        try:
            self._thread.call(self._close(), START_S)
        except (TimeoutError, RuntimeError) as error:
            log.warning("preview on port %d: closing failed: %s", self.port, error)
        finally:
            self._thread.stop()
            self._gate.close()
            if self._executor is not None:
                self._executor.shutdown(wait=True, cancel_futures=True)

    # -- event loop

    async def _listen(self) -> None:
        self._executor = ThreadPoolExecutor(2, thread_name_prefix=f"preview-{self.port}")
        self._whep = whep = Whep(self._rig, self._executor)

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._serve(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=MAX_FORM_BYTES)
        app.add_routes(
            [
                *(web.get(f"/{name}", _served(*content)) for name, content in page_files().items()),
                *self._gate.routes(),
                *AlignmentRoutes(lambda request: self._rig(request).alignment, self._executor).routes(),
                web.get("/api/rigs", self._rigs),
                web.get("/rigs/{rig}/live.mjpg", self._live),
                web.get("/rigs/{rig}/snapshot.png", self._snapshot),
                web.options("/rigs/{rig}/whep", whep.options),
                web.post("/rigs/{rig}/whep", whep.offer),
                web.delete("/rigs/{rig}/whep/{session}", whep.leave),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthy),
                web.get("/readyz", self._ready),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        server, limited_log = self._runner.server, LogLimit(log)
        assert server is not None
        label = f"preview port {self.port}"
        factory = functools.partial(HttpProtocol, server, limited_log)
        self._listener = Listener(self.host, self.port, label, factory, LIMITS, self._tls)
        self.port = self._listener.open()

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for rig in self.rigs.values():
            rig.end()
        if self._whep is not None:
            await self._whep.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listener is not None:
            await self._listener.wait_closed()

    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, HttpProtocol)
        connection.request_begun()
        try:
            try:
                response = await self._gate.refusal(request)
                if response is None:
                    response = await handler(request)
            except web.HTTPException as error:
                await _send(request, error)
                raise
            if not response.prepared:
                await _send(request, response)
            return response
        finally:
            connection.request_ended()

    def _rig(self, request: web.Request) -> RigView:
        rig = self.rigs.get(request.match_info["rig"])
        if rig is None:
            raise web.HTTPNotFound(text="unknown rig\n")
        return rig

    @staticmethod
    def _wanted(request: web.Request, rig: RigView) -> ViewSettings:
        try:
            return wanted_view(request.query, rig.first_view)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None

    async def _rigs(self, request: web.Request) -> web.StreamResponse:
        rig, since = request.query.get("rig", ""), request.query.get("since", "0")
        past = []
        if rig in self.rigs and since.isascii() and since.isdigit() and len(since) < 16:
            past = self.rigs[rig].past(int(since))
        sender = admitted()
        records = {name: record_for(sender.role, record) for name, record in self._records().items()}
        assert self._whep is not None
        user = None if sender.session is None else {"name": sender.session.user, "role": sender.role}
        answer = {"rigs": records, "past": past, "time_s": time.time(), "webrtc_needs": self._whep.needs, "user": user}
        return web.json_response(answer)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Motion JPEG: each client gets the newest image as soon as it has received the previous one."""
        rig = self._rig(request)
        view = self._wanted(request, rig)
        if rig.clients >= rig.max_clients:
            raise web.HTTPServiceUnavailable(text="viewer limit reached\n", headers={"Retry-After": "5"})
        assert self._executor is not None
        rig.enter()
        try:
            content = "multipart/x-mixed-replace; boundary=frame"
            response = web.StreamResponse(headers={"Content-Type": content, **_HEADERS})
            await response.prepare(request)
            await response.write(b"--frame\r\n")
            shown, session = 0, admitted().session
            while (newest := await rig.next_after(shown)) is not None and not (session and session.ended):
                shown = newest
                data = await rig.jpeg(view, self._executor)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                async with asyncio.timeout(SEND_S):
                    # including the boundary, at which browsers display the image
                    await response.write(head + data + b"\r\n--frame\r\n")
            return response
        except TimeoutError:
            _abort(request)
            raise ConnectionError("the client reads too slowly") from None
        finally:
            rig.leave()

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        rig = self._rig(request)
        view = self._wanted(request, rig)
        assert self._executor is not None
        data = await rig.png(view, self._executor)
        if data is None:
            raise web.HTTPServiceUnavailable(text="no frame yet\n")
        name = f"{rig.name}_{view.mode}_{time.strftime('%Y%m%d-%H%M%S')}.png"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=data, content_type="image/png", headers=headers)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        text = prometheus_text(self._records())
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _records(self) -> dict[str, dict[str, Any]]:
        """The record of each rig; that of a rig without frames consists of its status."""
        views, records = self.rigs.copy(), {}
        for name, status in self._statuses.copy().items():
            record = views.pop(name).record() if name in views else {"rig": name, "ready": False, "state": None}
            records[name] = {**record, "status": asdict(status())}
        return records | {name: view.record() for name, view in views.items()}

    async def _healthy(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        waiting = [name for name, rig in self.rigs.copy().items() if not rig.ready]
        down = (RigState.STARTING, RigState.FAILED)
        waiting += [name for name, status in self._statuses.copy().items() if status().state in down]
        if waiting or not self.rigs:
            return web.Response(status=503, text="not ready\n")
        return web.Response(text="ready\n")


def _served(text: str, kind: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind)

    return handle


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Sends a complete response; a client that reads too slowly is disconnected."""
    response.headers.update(_HEADERS)
    size = response.content_length or 0
    try:
        async with asyncio.timeout(SEND_S + size / MIN_BYTES_PER_S):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        _abort(request)
        raise ConnectionError("the client reads too slowly") from None


def _abort(request: web.Request) -> None:
    """Closes a connection without waiting for the client to read what is queued for it."""
    if request.transport is not None:
        request.transport.abort()
