"""The fused video for WebRTC viewers: encoded once for all of them, and only while there are any.

Everything but the encoding runs in the server's event loop. The feed always encodes the newest frame and skips those
that arrived during the previous one, so it never lags and never waits for a viewer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

import cv2
import numpy as np

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import VIDEO_CLOCK_HZ, FusedFrame, Plane
from fusepipe.pipeline.encoding.h264 import AccessUnit
from fusepipe.pipeline.encoding.live_encoder import LiveEncoder, LiveVideoOptions
from fusepipe.pipeline.servers.delivery import LIMIT_BYTES, MIN_KEY_INTERVAL_NS, Delivery, DeliveryDecision
from fusepipe.pipeline.servers.web.link_rate import LinkRate
from fusepipe.pipeline.servers.web.rig_view import RigView

log = logging.getLogger(__name__)

# constrained baseline profile, level 3.1: mandatory for browsers (RFC 7742, section 6.2)
MAX_WIDTH_PX, MAX_HEIGHT_PX = 1280, 720
MAX_BLOCKS_PER_S = 108_000  # of 16x16 pixels (H.264, table A-1)
MAX_FPS = 60.0
FLUSH_FACTOR = 2  # the queue is flushed above this multiple of its limit
# always x264: the video is small, and GPUs have few encoder sessions, which recordings may need
ENCODING = LiveVideoOptions(encoder="x264", baseline=True)


class Viewer:
    """The queue of one viewer, between the feed and the sender, which waits in :meth:`next`.

    ``backlog`` returns the bytes in the socket's send buffer; ``link`` limits the queue. ``connected`` is set by the
    sender, ``ended`` by either side.
    """

    def __init__(self, backlog: Callable[[], int]) -> None:
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.link = LinkRate()
        self._backlog = backlog
        self._delivery = Delivery()
        self._queue: deque[tuple[AccessUnit, int]] = deque()
        self._queued_bytes = 0
        self._filled = asyncio.Event()
        self._key_requested = False

    @property
    def wants_key(self) -> bool:
        if not self.connected.is_set() or self._delivery.stalled:
            return False
        return self._key_requested or self._delivery.wants_key

    @property
    def queued_bytes(self) -> int:
        """The size of the queue."""
        return self._queued_bytes

    def request_key(self) -> None:
        """The player cannot decode and needs a key frame."""
        self._key_requested = True

    def offer(self, unit: AccessUnit, pts: int, now_ns: int) -> None:
        """Queues an access unit, or drops it for a slow viewer; disconnects a viewer that stays slow."""
        if not self.connected.is_set():
            return
        self.link.offered(unit.size_bytes)
        self._delivery.limit_bytes = self.link.limit_bytes or LIMIT_BYTES
        if len(self._queue) > 1 and self._queued_bytes > FLUSH_FACTOR * self._delivery.limit_bytes:
            # the link became slower: these units would arrive seconds late, after frames lost on the link
            self._queue.clear()
            self._queued_bytes = 0
            self._delivery.lost()
        queued_bytes = self._queued_bytes + self._backlog()
        verdict = self._delivery.offer(key=unit.key, queued_bytes=queued_bytes, now_ns=now_ns)
        if verdict is DeliveryDecision.DISCONNECT:
            self.ended.set()
        elif verdict is DeliveryDecision.SEND:
            self._delivery.wrote(unit.size_bytes)
            self._key_requested = self._key_requested and not unit.key
            self._queue.append((unit, pts))
            self._queued_bytes += unit.size_bytes
            self._filled.set()

    async def next(self) -> tuple[AccessUnit, int]:
        """The next access unit and its time in ticks of ``VIDEO_CLOCK_HZ``; the first one is a key frame."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        unit, pts = self._queue.popleft()
        self._queued_bytes -= unit.size_bytes
        return unit, pts


class VideoFeed:
    """The video of one rig; runs while there are viewers."""

    def __init__(self, rig: RigView, executor: Executor) -> None:
        self.rig = rig
        self._executor = executor
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._watched = asyncio.Event()
        self._key_ns = 0
        self._pts = -1

    def join(self, viewer: Viewer) -> None:
        self._viewers.add(viewer)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def connected(self, viewer: Viewer) -> None:
        """The viewer's connection is established: it gets video from now on."""
        viewer.connected.set()
        self._watched.set()

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not any(other.connected.is_set() for other in self._viewers):
            self._watched.clear()
        if not self._viewers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        encoder = LiveEncoder(ENCODING, fps=None)
        number = 0
        try:
            while await self._watched.wait():
                newest = await self.rig.next_after(number)
                if newest is None:
                    return
                number, begun_s = newest, time.monotonic()
                frame, stamp_ns = self.rig.newest()
                key = self._wants_key(time.monotonic_ns())
                unit = await loop.run_in_executor(self._executor, _encode, encoder, frame, key)
                self._publish(unit, stamp_ns)
                pause_s = min_interval_s(*encoder.size) - (time.monotonic() - begun_s)
                await asyncio.sleep(max(0.0, pause_s))
        except SinkError as error:
            log.warning("rig %s: preview video stopped: %s", self.rig.name, error)
        finally:
            for viewer in self._viewers:
                viewer.ended.set()

    def _wants_key(self, now_ns: int) -> bool:
        return now_ns - self._key_ns >= MIN_KEY_INTERVAL_NS and any(viewer.wants_key for viewer in self._viewers)

    def _publish(self, unit: AccessUnit, stamp_ns: int) -> None:
        now_ns = time.monotonic_ns()
        if unit.key:
            self._key_ns = now_ns
        self._pts = max(stamp_ns * VIDEO_CLOCK_HZ // 1_000_000_000, self._pts + 1)
        for viewer in self._viewers:
            viewer.offer(unit, self._pts, now_ns)


def _encode(encoder: LiveEncoder, frame: FusedFrame, key: bool) -> AccessUnit:
    return encoder.encode(downscaled(frame), key=key)


def downscaled(frame: FusedFrame) -> FusedFrame:
    """The frame, downscaled to what level 3.1 allows; the aspect ratio is kept to a pixel."""
    scale = min(MAX_WIDTH_PX / frame.width, MAX_HEIGHT_PX / frame.height)
    if scale >= 1:
        return frame
    width, height = (max(2, round(size * scale)) for size in (frame.width, frame.height))
    half = (width + 1) // 2, (height + 1) // 2
    sizes = [(width, height), half, half]
    planes = tuple(_resized(plane, size) for plane, size in zip(frame.planes, sizes, strict=False))
    return replace(frame, planes=planes)


def _resized(plane: Plane, size: tuple[int, int]) -> Plane:
    return replace(plane, pixels=np.asarray(cv2.resize(plane.pixels, size, interpolation=cv2.INTER_AREA)))


def min_interval_s(width: int, height: int) -> float:
    """The min interval of frames of this size in pixels at level 3.1."""
    blocks = -(-width // 16) * -(-height // 16)
    return max(1 / MAX_FPS, blocks / MAX_BLOCKS_PER_S)
