"""The stream that players open: ``rtsp://HOST:PORT/NAME``, served by this process."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core.errors import SinkSetupError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.addresses import url_host
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.server import RtspServer
from fusepipe.pipeline.servers.rtsp.stream import Stream
from fusepipe.pipeline.servers.shared_servers import SharedServers
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.live.encoded_stream import EncodedStream

SERVERS = SharedServers(RtspServer)


class RtspServerSink:
    """Serves one stream; several sinks of one process may share a port. Encodes only while somebody watches.

    ``live`` is false for recordings, which are then served at the speed they were captured.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        options: LiveVideoOptions,
        *,
        credentials: Credentials | None = None,
        max_clients: int = 32,
        fps: float | None = None,
        live: bool = True,
    ) -> None:
        self._host, self._port, self._path = host, port, path
        self._credentials = credentials
        self._max_clients = max_clients
        self._video = EncodedStream(path, options, fps=fps, live=live)
        self._stream: Stream | None = None
        self._server: RtspServer | None = None
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return f"rtsp://{url_host(self._host)}:{self._port}/{self._path}"

    @property
    def announcement(self) -> str:
        return f"serving {self.label}" + (" (user and password needed)" if self._credentials is not None else "")

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        SERVERS.check(self._host, self._port, self.label)

    def start(self) -> None:
        """Listens, before the first frame: a client that comes early waits for it."""
        if self._stream is not None:
            return
        server = SERVERS.acquire(self._host, self._port, self.label)
        try:
            self._stream = server.add(self._path, credentials=self._credentials, max_clients=self._max_clients)
        except ValueError as error:
            SERVERS.release(self._host, self._port)
            raise SinkSetupError(f"{self.label}: another sink serves this path; use another name") from error
        self._server = server

    def write(self, frame: FusedFrame) -> None:
        self.start()
        stream = self._stream
        assert stream is not None
        self._video.write(frame, stream)

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        note = "nobody connected"
        if self._stream is not None and self._server is not None:
            counts = self._stream.counts()
            self._server.remove(self._stream)
            SERVERS.release(self._host, self._port)
            if counts.clients_total:
                note = f"{counts.clients_total} client{'s' if counts.clients_total != 1 else ''}"
            if counts.dropped_units:
                note += f", {counts.dropped_units} pictures dropped for slow ones"
            if counts.given_up:
                note += f", {counts.given_up} given up"
        self._video.close()
        self._report = SinkReport(self.label, self._video.frames, self._video.bytes, note)
        return self._report
