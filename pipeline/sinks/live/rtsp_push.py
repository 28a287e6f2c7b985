"""Pushes the fused stream to another RTSP server (``rtsp+push://HOST/NAME``), which serves or records it."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.servers.rtsp.push import Pusher, PushTarget
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.live.encoded_stream import EncodedStream


class RtspPushSink:
    """Never waits for the target: while it is away, pictures are dropped and it is tried again."""

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
        self._pusher = Pusher(self._target)
        self._video = EncodedStream(path, options, fps=fps, live=live)
        self._report: SinkReport | None = None

    @property
    def label(self) -> str:
        return self._target.url.replace("rtsp://", "rtsp+push://", 1).partition("?")[0]

    @property
    def announcement(self) -> str:
        return f"pushing to {self.label}"

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """A target that is away now may be there later: nothing is refused."""

    def start(self) -> None:
        try:
            self._pusher.start()
        except RuntimeError as error:
            raise SinkError(f"{self.label}: {error}") from error

    def write(self, frame: FusedFrame) -> None:
        self.start()
        self._video.write(frame, self._pusher)

    def close(self) -> SinkReport:
        if self._report is not None:
            return self._report
        self._pusher.stop()
        self._video.close()
        pusher = self._pusher
        times = pusher.connections
        note = f"connected {times} time{'s' if times != 1 else ''}"
        if pusher.dropped_units:
            note += f", {pusher.dropped_units} pictures dropped"
        if pusher.failure:
            note += f", last problem: {pusher.failure}"
        self._report = SinkReport(self.label, self._video.frames, self._video.bytes, note)
        return self._report
