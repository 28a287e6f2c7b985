"""The fused picture as H.264 for those who watch by WebRTC: encoded once for all, and only while somebody watches.

Everything here runs in the server's loop, but for the encoding itself. Each time the newest frame is taken;
what came while the one before was encoded is left out, so that the feed never lags and never waits for anyone.
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
from fusepipe.core.frames import FusedFrame, Plane
from fusepipe.pipeline.encoding.h264 import AccessUnit
from fusepipe.pipeline.encoding.live_encoder import LiveEncoder, LiveVideoOptions
from fusepipe.pipeline.servers.delivery import LIMIT_BYTES, MIN_KEY_INTERVAL_NS, Delivery, DeliveryDecision
from fusepipe.pipeline.servers.web.link_rate import LinkRate
from fusepipe.pipeline.servers.web.rig_view import RigView

log = logging.getLogger(__name__)

CLOCK_HZ = 90_000
# Level 3.1 of the constrained baseline profile is what every browser has to decode (RFC 7742, section 6.2).
MAX_WIDTH_PX, MAX_HEIGHT_PX = 1280, 720
MAX_BLOCKS_PER_S = 108_000  # of 16x16 pixels (H.264, table A-1)
MAX_FPS = 60.0
_STALE = 2  # times what may wait: more than that is thrown away
# By x264 always: what is watched here is small, and GPUs have few encoders, which the recordings may need.
_OPTIONS = LiveVideoOptions(encoder="x264", baseline=True)


class Viewer:
    """One who watches: a queue between the feed and whatever sends, which waits in :meth:`next`.

    ``backlog`` gives the bytes that were sent and have not left this machine; ``link`` bounds what waits to be sent.
    ``connected`` is set by who sends, ``ended`` by either side.
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
        self._asked = False

    @property
    def wants_key(self) -> bool:
        if not self.connected.is_set() or self._delivery.stalled:
            return False
        return self._asked or self._delivery.wants_key

    @property
    def queued_bytes(self) -> int:
        """The size of the queue."""
        return self._queued_bytes

    def ask_key(self) -> None:
        """The receiver cannot decode what it has: it needs a key frame."""
        self._asked = True

    def offer(self, unit: AccessUnit, pts: int, now_ns: int) -> None:
        """Queues a picture, or leaves it out for one who is slow; ends the viewing of one who stays so."""
        if not self.connected.is_set():
            return
        self.link.wanted(unit.size_bytes)
        self._delivery.limit_bytes = self.link.limit_bytes or LIMIT_BYTES
        if len(self._queue) > 1 and self._queued_bytes > _STALE * self._delivery.limit_bytes:
            # The link is thinner than it was: they would come seconds late, after pictures that were lost on it.
            self._queue.clear()
            self._queued_bytes = 0
            self._delivery.lost()
        queued_bytes = self._queued_bytes + self._backlog()
        verdict = self._delivery.offer(key=unit.key, queued_bytes=queued_bytes, now_ns=now_ns)
        if verdict is DeliveryDecision.DISCONNECT:
            self.ended.set()
        elif verdict is DeliveryDecision.SEND:
            self._delivery.wrote(unit.size_bytes)
            self._asked = self._asked and not unit.key
            self._queue.append((unit, pts))
            self._queued_bytes += unit.size_bytes
            self._filled.set()

    async def next(self) -> tuple[AccessUnit, int]:
        """The next picture and its time in ticks of ``CLOCK_HZ``; the first one is a key frame."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        unit, pts = self._queue.popleft()
        self._queued_bytes -= unit.size_bytes
        return unit, pts


class VideoFeed:
    """One rig's. It runs while there are viewers."""

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
        """The viewer's connection stands: it gets pictures from now on."""
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
        encoder = LiveEncoder(_OPTIONS, fps=None)
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
                pause_s = shortest_interval_s(*encoder.size) - (time.monotonic() - begun_s)
                await asyncio.sleep(max(0.0, pause_s))
        except SinkError as error:
            log.warning("rig %s: no video for its page: %s", self.rig.name, error)
        finally:
            for viewer in self._viewers:
                viewer.ended.set()

    def _wants_key(self, now_ns: int) -> bool:
        return now_ns - self._key_ns >= MIN_KEY_INTERVAL_NS and any(viewer.wants_key for viewer in self._viewers)

    def _publish(self, unit: AccessUnit, stamp_ns: int) -> None:
        now_ns = time.monotonic_ns()
        if unit.key:
            self._key_ns = now_ns
        self._pts = max(stamp_ns * CLOCK_HZ // 1_000_000_000, self._pts + 1)
        for viewer in self._viewers:
            viewer.offer(unit, self._pts, now_ns)


def _encode(encoder: LiveEncoder, frame: FusedFrame, key: bool) -> AccessUnit:
    return encoder.encode(fitted(frame), key=key)


def fitted(frame: FusedFrame) -> FusedFrame:
    """The frame, made smaller where level 3.1 has no room for it; its aspect stays, to a pixel."""
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


def shortest_interval_s(width: int, height: int) -> float:
    """Between two pictures of this size, in pixels, so that level 3.1 is kept."""
    blocks = -(-width // 16) * -(-height // 16)
    return max(1 / MAX_FPS, blocks / MAX_BLOCKS_PER_S)
