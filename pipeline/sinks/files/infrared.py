"""A lossless recording of the infrared camera: its counts as they were captured, with their times and their meaning.

The sinks of the fused video write it. Each frame that was fused is recorded once, at its own capture time on the
timeline of the fused video.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fusepipe.core.frames import FusedFrame, PairState
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.recording import RecordingSink
from fusepipe.pipeline.sinks.files.video import VideoSink
from fusepipe.pipeline.sinks.files.video_with_sidecar import VideoWithSidecar


class InfraredSink:
    """Passes the infrared frame of each pair on to ``recording``, unless that has it already.

    Also not twice: a frame that a frozen camera repeats. Meets the contract of a sink. ``recorded_ns`` is the capture
    time of the frame that the last :meth:`write` has recorded; ``None`` for none.
    """

    recorded_ns: int | None = None

    def __init__(self, recording: VideoSink | VideoWithSidecar | RecordingSink) -> None:
        self.recording = recording
        self._last = -1  # index of the frame that was recorded last
        self._begun = False

    @property
    def label(self) -> str:
        return self.recording.label

    @property
    def outputs(self) -> list[Path]:
        return list(self.recording.outputs)

    def check(self) -> None:
        self.recording.check()

    def pass_over(self, frame: FusedFrame) -> None:
        """Counts the infrared frame of a fused one as recorded: another file has it."""
        if frame.pair.infrared is not None:
            self._last = frame.pair.infrared.exposed.index

    def write(self, frame: FusedFrame) -> None:
        infrared, self.recorded_ns = frame.pair.infrared, None
        if not self._begun:
            self._begun = True
            video = self.recording.video if isinstance(self.recording, VideoWithSidecar) else self.recording
            if isinstance(video, VideoSink):  # each segment begins at its own first frame
                first_ns = frame.capture_ns if infrared is None else infrared.exposed.capture_ns
                video.origin_ns = min(frame.capture_ns, first_ns)
        if infrared is None or frame.state is PairState.NO_SIGNAL or infrared.exposed.index <= self._last:
            return
        self._last = infrared.exposed.index
        self.recording.write(
            replace(
                frame,
                planes=(infrared.luma,),
                index=infrared.exposed.index,
                capture_ns=infrared.exposed.capture_ns,
                pts=infrared.pts,
                time_base=infrared.time_base,
                pixel_aspect=infrared.pixel_aspect,
                name=infrared.name,
            )
        )
        self.recorded_ns = infrared.exposed.capture_ns

    def close(self) -> SinkReport:
        return self.recording.close()
