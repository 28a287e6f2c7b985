"""Publishes the fused stream to another RTSP server (``rtsp+push://HOST/NAME``), which serves or records it."""

from __future__ import annotations

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.text import counted
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.push import PushTarget, RtspPublisher
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.live.encoded_stream import EncodedStream
from fusepipe.pipeline.sinks.live.network_sink import NetworkSink


class RtspPushSink(NetworkSink):
    """Never blocks: while the target is unreachable, frames are dropped and the connection is retried."""

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        options: LiveVideoOptions,
        *,
        credentials: Credentials | None = None,
        fps: float | None = None,
        live: bool = True,
    ) -> None:
        self._target = PushTarget(host, port, path, credentials)
        self._publisher = RtspPublisher(self._target)
        self._video = EncodedStream(path, options, fps=fps, live=live)

    @property
    def label(self) -> str:
        return self._target.url.replace("rtsp://", "rtsp+push://", 1).partition("?")[0]

    @property
    def announcement(self) -> str:
        return f"pushing to {self.label}"

    @property
    def connected(self) -> bool:
        """Whether the target is recording now."""
        return self._publisher.watched

    @property
    def connections(self) -> int:
        """Successful connections so far."""
        return self._publisher.connections

    @property
    def dropped_units(self) -> int:
        return self._publisher.dropped_units

    @property
    def failure(self) -> str:
        """Why it is not connected; empty while it is."""
        return self._publisher.failure

    def check(self) -> None:
        """Never fails: a target that is unreachable now may become reachable later."""

    def start(self) -> None:
        try:
            self._publisher.start()
        except RuntimeError as error:
            raise SinkError(f"{self.label}: {error}") from error

    def write(self, frame: FusedFrame) -> None:
        self.start()
        self._video.write(frame, self._publisher)

    def _finish(self) -> SinkReport:
        self._publisher.stop()
        self._video.close()
        note = counted(self.connections, "connection")
        if self.dropped_units:
            note += f", {counted(self.dropped_units, 'frame')} dropped"
        if self.failure:
            note += f", last error: {self.failure}"
        return SinkReport(self.label, self._video.frames, self._video.bytes, note)
