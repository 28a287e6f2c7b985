"""A live rig under test: two RTSP cameras, a pipeline, a sink that records its output, and outputs for the faults."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
from helpers.ports import free_port
from peers.cameras import RtspCamera, RtspRecorder
from peers.relay import Relay

from fusepipe.config.schema import Rig
from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.fuser import FusionBatch, Ticket
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.sinks.base import Sink, SinkReport
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.live.rtsp import RtspServerSink
from fusepipe.pipeline.sinks.live.rtsp_push import RtspPushSink
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser

HOST = "127.0.0.1"
FPS = 15
KEPT = 4096  # frames and messages that are remembered: what watches a long run must not grow
STEADY = 5  # fused frames in a row that count as recovered
INFRARED, VISIBLE = "infrared", "visible"


class NotRecoveredError(AssertionError):
    """The rig did not return to fused pairs in time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One output frame: arrival (monotonic, s), state, capture time and source frame."""

    at_s: float
    state: str
    capture_ns: int
    band: str
    index: int

    @property
    def age_s(self) -> float:
        return self.at_s - self.capture_ns / 1e9


class Watch:
    """A sink that records the last minutes of frames, and whether capture times ever decreased."""

    label, outputs = "watch", ()

    def __init__(self) -> None:
        self.frames = 0
        self.went_back = False
        self._seen: deque[Seen] = deque(maxlen=KEPT)
        self._changed = threading.Condition()

    def check(self) -> None:
        """Nothing to refuse."""

    def write(self, frame: FusedFrame) -> None:
        lead = frame.pair.lead
        with self._changed:
            self.frames += 1
            self.went_back |= bool(self._seen) and frame.capture_ns <= self._seen[-1].capture_ns
            self._seen.append(Seen(time.monotonic(), str(frame.state), frame.capture_ns, str(lead.band), lead.index))
            self._changed.notify_all()

    def close(self) -> SinkReport:
        return SinkReport("watch", self.frames, 0)

    def fused_again(self, since_s: float, timeout_s: float) -> float:
        """Seconds until a run of fused frames that begins after ``since_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                run, begun_s = 0, since_s
                for each in reversed(self._seen):
                    if each.state != "fused" or each.at_s < since_s:
                        break
                    run, begun_s = run + 1, each.at_s
                if run >= STEADY:
                    return begun_s - since_s
                if not self._changed.wait(deadline - time.monotonic()):
                    states = Counter(each.state for each in self._seen if each.at_s >= since_s)
                    raise NotRecoveredError(f"not fused again within {timeout_s} s; since then {dict(states)}")

    def since(self, since_s: float) -> list[Seen]:
        with self._changed:
            return [each for each in self._seen if each.at_s >= since_s]


def longest_gap_s(times_s: list[float]) -> float:
    """The longest interval between consecutive times, up to now."""
    return max(b - a for a, b in pairwise([*times_s, time.monotonic()]))


class SlowFuser:
    """The average of both images; each request takes ``delay_s`` longer."""

    def __init__(self) -> None:
        self._fuser = load_fuser("mean")
        self.info = self._fuser.info
        self.delay_s = 0.0

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        self._fuser.prepare(height, width, batch)

    def submit(self, batch: FusionBatch) -> Ticket:
        if self.delay_s:
            time.sleep(self.delay_s)
        return self._fuser.submit(batch)

    def close(self) -> None:
        self._fuser.close()


class Viewer:
    """Plays an RTSP stream in a thread and records when each frame was decoded."""

    def __init__(self, url: str) -> None:
        self.times_s: deque[float] = deque(maxlen=KEPT)
        self.problem: Exception | None = None
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._play, name="viewer")
        self._thread.start()

    def _play(self) -> None:
        options = {"rtsp_transport": "tcp", "analyzeduration": "0", "probesize": "32"}
        try:
            with av.open(self._url, options=options, timeout=(20, 20)) as container:
                for _ in container.decode(video=0):
                    self.times_s.append(time.monotonic())
                    if self._stop.is_set():
                        return
        except (av.FFmpegError, OSError) as error:
            self.problem = error

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return not self._thread.is_alive()


class Messages(logging.Handler):
    """Captures fusepipe's log messages while installed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def said(self, text: str) -> bool:
        return any(text in line for line in list(self.lines))


class Bench:
    """A running rig. The caller closes ``cameras``; :meth:`close` closes the rest.

    ``udp``: cameras over UDP through a :class:`Relay` each; ``mixed``: infrared over TCP through its relay. ``serve``:
    an RTSP sink with a viewer. ``push``: an RTSP target. ``disk``: a folder to record to. ``patient``: the product's
    longest waits are as they are.
    """

    def __init__(
        self,
        cameras: dict[str, RtspCamera],
        *,
        udp: bool = False,
        mixed: bool = False,
        serve: bool = False,
        push: bool = False,
        disk: Path | None = None,
        patient: bool = False,
    ) -> None:
        self.cameras, self.patient = cameras, patient
        self.relays = {band: Relay(camera.port) for band, camera in cameras.items()} if udp or mixed else {}
        self.watch, self.engine, self.messages = Watch(), SlowFuser(), Messages()
        self.port, self.disk = free_port(), disk
        self.viewer: Viewer | None = None
        self._stack = ExitStack()
        for relay in self.relays.values():
            self._stack.callback(relay.close)
        logging.getLogger("fusepipe").addHandler(self.messages)
        self._stack.callback(logging.getLogger("fusepipe").removeHandler, self.messages)
        self.recorder: RtspRecorder | None = None
        sinks: list[Sink] = [self.watch]
        self.served = self.pushed = None
        if serve:
            self.served = RtspServerSink(HOST, self.port, "roof", LiveVideoOptions(), fps=FPS)
            sinks.append(self.served)
        if push:
            self.recorder = RtspRecorder()
            self._stack.callback(self.recorder.close)
            self.pushed = RtspPushSink(HOST, self.recorder.port, "roof", LiveVideoOptions(), fps=FPS)
            sinks.append(self.pushed)
        if disk is not None:
            sinks.append(VideoSink(disk / "out.mkv", VideoOptions(codec="ffv1"), fps=FPS))
        self.pipeline = Pipeline(
            Rig.model_validate(self._rig({VISIBLE} if mixed else {INFRARED, VISIBLE} if udp else set())),
            sinks=sinks,
            fuser=self.engine,
        )

    def _rig(self, udp: set[str]) -> dict[str, object]:
        common = {"stall_timeout": "1s", "open_timeout": "3s"}
        ends = self.relays or self.cameras
        return {
            "name": "faults",
            **{
                band: {
                    "url": f"rtsp://{HOST}:{end.port}/cam",
                    "transport": "udp" if band in udp else "tcp",
                    **common,
                }
                for band, end in ends.items()
            },
            "sync": {"tolerance": "40ms", "max_wait": "300ms", "max_hold": "1s"},
            "fusion": {"model": "mean"},
        }

    def start(self, timeout_s: float = 40.0) -> None:
        """Returns once the rig is fused, and viewer and target receive frames."""
        self.pipeline.start()
        self.watch.fused_again(0.0, timeout_s)
        if self.served is not None:
            self.viewer = Viewer(f"rtsp://{HOST}:{self.port}/roof")
            self._stack.callback(self.viewer.close)
            until(lambda: len(self.viewer.times_s) > STEADY, timeout_s, "the viewer gets no frames")
        if self.recorder is not None:
            until(lambda: self.recorder.buffers > 0, timeout_s, "the target gets no frames")

    def close(self) -> None:
        """Ends the run and raises its error, except that of a failed disk sink, which has a test of its own."""
        try:
            if self.viewer is not None:
                self.viewer.close()
            self.pipeline.drain()
            self.pipeline.wait(40)
        finally:
            self._stack.close()
        try:
            self.pipeline.raise_error()
        except SinkError as error:
            if self.disk is None or str(self.disk) not in str(error):
                raise

    # -- what is measured

    def lost(self) -> Counter[str]:
        """Losses so far, by reason."""
        report = self.pipeline.report()
        lost = Counter(report.skipped)
        lost.update({f"dropped before {stage}": count for stage, count in report.dropped.items()})
        for band, relay in self.relays.items():
            lost[f"{band} packets in transit"] = relay.packets["lost"]
        if self.served is not None and (counts := self.stream_counts()) is not None:
            lost["frames of the client that never reads"] = counts.dropped_units
        if self.pushed is not None:
            lost["frames not pushed"] = self.pushed.dropped_units
        return +lost

    def stream_counts(self):
        return None if self.served is None else self.served.counts()

    def failures(self, band: str) -> Counter[str]:
        """Failed connections of a camera so far, by cause."""
        live = self.pipeline.report().live
        return Counter(live["cameras"][band]["failures"])

    def gap_s(self, since_s: float) -> float:
        """The longest interval without a frame, of the rig's output and of each viewer, from one second before."""
        outputs = [[each.at_s for each in self.watch.since(since_s - 1)]]
        if self.viewer is not None:
            outputs.append([at for at in list(self.viewer.times_s) if at >= since_s - 1])
        return max(longest_gap_s(times) for times in outputs)


def until(condition, timeout_s: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
