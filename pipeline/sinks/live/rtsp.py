"""Serves the fused stream to RTSP players at ``rtsp://HOST:PORT/NAME``, or ``rtsps://`` with TLS."""

from __future__ import annotations

from fusepipe.core.errors import SinkSetupError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.text import counted
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.addresses import url_host
from fusepipe.pipeline.servers.certificate import CertificateFiles
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.server import RtspServer
from fusepipe.pipeline.servers.rtsp.stream import Stream, StreamCounts
from fusepipe.pipeline.servers.shared_servers import SharedServers
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.live.encoded_stream import EncodedStream
from fusepipe.pipeline.sinks.live.network_sink import NetworkSink

SERVERS = SharedServers(RtspServer)


class RtspServerSink(NetworkSink):
    """Serves one stream; sinks of one process may share a port. Encodes only while a client is connected.

    ``live`` is false for recordings, which are served at the speed at which they were captured. ``tls`` serves RTSP
    over TLS, with the video in the same connection.
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
        tls: CertificateFiles | None = None,
    ) -> None:
        self._host, self._port, self._path, self._tls = host, port, path, tls
        self._credentials = credentials
        self._max_clients = max_clients
        self._video = EncodedStream(path, options, fps=fps, live=live)
        self._stream: Stream | None = None

    @property
    def label(self) -> str:
        scheme = "rtsp" if self._tls is None else "rtsps"
        return f"{scheme}://{url_host(self._host)}:{self._port}/{self._path}"

    @property
    def announcement(self) -> str:
        return f"serving {self.label}" + (" (user and password required)" if self._credentials is not None else "")

    def counts(self) -> StreamCounts | None:
        """Clients of the stream; ``None`` before :meth:`start`."""
        return None if self._stream is None else self._stream.counts()

    def check(self) -> None:
        SERVERS.check(self._host, self._port, self.label)

    def start(self) -> None:
        """Listens before the first frame: clients that connect early wait for it."""
        if self._stream is not None:
            return
        try:
            self._stream = SERVERS.attach(self._host, self._port, self.label, self._add, self._tls)
        except ValueError as error:
            raise SinkSetupError(f"{self.label}: another sink serves this path; use another name") from error

    def _add(self, server: RtspServer) -> Stream:
        return server.add(self._path, credentials=self._credentials, max_clients=self._max_clients)

    def write(self, frame: FusedFrame) -> None:
        self.start()
        stream = self._stream
        assert stream is not None
        self._video.write(frame, stream)

    def _finish(self) -> SinkReport:
        note = counted(0, "client")
        if (stream := self._stream) is not None:
            counts = stream.counts()
            SERVERS.detach(self._host, self._port, lambda server: server.remove(stream))
            note = counted(counts.clients_total, "client")
            if counts.dropped_units:
                note += f", {counted(counts.dropped_units, 'frame')} dropped for slow clients"
            if counts.disconnected:
                note += f", {counted(counts.disconnected, 'stalled client')} disconnected"
        self._video.close()
        return SinkReport(self.label, self._video.frames, self._video.bytes, note)
