"""One HTTP connection: aiohttp's, with a time limit for headers, short error responses and short log lines.

aiohttp alone waits for the end of the headers without limit, answers an invalid request with what was sent (128 KB of a
200 KB line), and logs each with a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from fusepipe.pipeline.servers.log_limit import LogLimit

log = logging.getLogger(__name__)

HEADER_S = 10.0  # max time to the end of the headers, from the connection or the previous response
LINGER_S = 2.0  # how long the rest of a refused body is read, so that the client receives the response
MAX_LINE_BYTES = 8190  # of the request line and of each header
MAX_HEADERS = 64


class HttpProtocol(web.RequestHandler):
    """The server's middleware calls :meth:`request_begun` and :meth:`request_ended`."""

    def __init__(self, server: web.Server, limited_log: LogLimit) -> None:
        self._http_loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=self._http_loop,
            logger=log,
            lingering_time=LINGER_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._limited_log = limited_log
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -- time limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.request_ended()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.request_begun()
        super().connection_lost(exc)

    def request_begun(self) -> None:
        """The headers are complete: no time limit while the request is served."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def request_ended(self) -> None:
        """The next request has :data:`HEADER_S` to arrive."""
        self.request_begun()
        if self.transport is None:  # the client has left
            return
        self._timer = self._http_loop.call_later(HEADER_S, self.force_close)

    # -- errors

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A short response and a short line; the traceback only of a defect of this server."""
        if isinstance(exc, ConnectionError):  # the client has left, or was disconnected
            raise ConnectionError(str(exc)) from exc  # aiohttp then closes the connection
        if status < 500:
            kind = type(exc).__name__ if exc is not None else "invalid"
            self._limited_log.info("invalid", "invalid request from %s: %s", request.remote, kind)
            text = "invalid request"
        else:
            self._limited_log.error("defect", "request from %s failed", request.remote, error=exc)
            text = "internal error"
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        response = web.Response(status=status, text=f"{text}\n")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What aiohttp reports outside of :meth:`handle_error`."""
        self._limited_log.error("defect", "serving a connection failed", error=kw.get("exc_info"))
