"""The state of one rig on the preview page: newest frame, history, rendered images.

The pipeline's thread hands in frames without blocking; everything else runs in the server's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from fusepipe.core.frames import FusedFrame, PairState
from fusepipe.core.view_settings import PLAIN, ViewSettings
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.web import rendering
from fusepipe.pipeline.servers.web.alignment import AlignmentControl
from fusepipe.pipeline.servers.web.ice import IceServer
from fusepipe.pipeline.servers.web.view_query import as_query
from fusepipe.pipeline.views.output_view import OutputView

Record = Mapping[str, Any]
MAX_VIEWS = 32  # that are kept
HISTORY = 600  # frames whose skew the page plots
READY_S = 5.0  # max age of the last frame of a rig that is ready


class RigView:
    """One rig on the page.

    ``record`` returns the run's record so far; it is called in the event loop. ``live`` is false for recordings, whose
    frames may arrive faster than real time. The page begins with ``view``; ``alignment`` moves the infrared image.
    """

    def __init__(
        self,
        name: str,
        thread: LoopThread,
        record: Callable[[], Record],
        max_clients: int,
        *,
        live: bool,
        ice_servers: tuple[IceServer, ...] = (),
        view: ViewSettings = PLAIN,
        alignment: AlignmentControl | None = None,
    ) -> None:
        self.name = name
        self.first_view = view
        self.ice_servers = ice_servers
        self.alignment = alignment
        self.max_clients = max_clients
        self.clients = 0
        self.clients_total = 0
        self._video_clients = 0
        self._live = live
        self._thread = thread
        self._record = record
        self._frame: FusedFrame | None = None
        self._number = 0
        self._shown_ns = 0
        self._past: deque[tuple[int, float | None, str]] = deque(maxlen=HISTORY)
        self._changed = asyncio.Event()
        self._rendered: dict[ViewSettings, tuple[int, asyncio.Future[bytes]]] = {}
        self._views: dict[ViewSettings, OutputView] = {}
        self.ended = False

    # -- pipeline thread

    def show(self, frame: FusedFrame) -> None:
        """Makes a frame the newest one; never blocks."""
        self._thread.post(self._show, frame)

    # -- event loop

    def _show(self, frame: FusedFrame) -> None:
        self._frame, self._shown_ns = frame, time.monotonic_ns()
        self._number += 1
        skew_ns = frame.pair.skew_ns if frame.state is PairState.FUSED else None
        self._past.append((self._number, None if skew_ns is None else round(skew_ns / 1e6, 3), str(frame.state)))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Ends the rig: waiting requests are released."""
        self.ended = True
        self._wake()

    @property
    def _temperatures(self) -> bool:
        """Whether the counts of the newest infrared image have temperatures."""
        infrared = None if self._frame is None else self._frame.pair.infrared
        return infrared is not None and infrared.radiometry is not None and infrared.radiometry.thermal

    @property
    def age_s(self) -> float | None:
        """Since the last frame."""
        return None if self._frame is None else (time.monotonic_ns() - self._shown_ns) / 1e9

    @property
    def ready(self) -> bool:
        return self.age_s is not None and self.age_s < READY_S

    def enter(self, *, video: bool = False) -> None:
        """Adds a viewer, of WebRTC video or Motion JPEG."""
        self.clients += 1
        self.clients_total += 1
        self._video_clients += video

    def leave(self, *, video: bool = False) -> None:
        self.clients -= 1
        self._video_clients -= video

    def newest(self) -> tuple[FusedFrame, int]:
        """The newest frame and its capture time or, for recordings, its arrival; monotonic, in ns."""
        assert self._frame is not None
        return self._frame, self._frame.capture_ns if self._live else self._shown_ns

    async def next_after(self, number: int) -> int | None:
        """Waits for a frame after ``number``; returns the newest number, or ``None`` when the rig has ended."""
        while self._number <= number and not self.ended:
            await self._changed.wait()
        return None if self.ended else self._number

    async def jpeg(self, settings: ViewSettings, executor: Executor) -> bytes:
        """The newest frame as JPEG; rendered once for all clients of the same view."""
        assert self._frame is not None
        number, future = self._rendered.get(settings, (-1, None))
        if future is None or number != self._number:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(executor, rendering.jpeg, self._frame, self._output_view(settings))
            if len(self._rendered) > MAX_VIEWS:
                self._rendered.clear()
            self._rendered[settings] = self._number, future
        return await asyncio.shield(future)

    async def png(self, settings: ViewSettings, executor: Executor) -> bytes | None:
        if self._frame is None:
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, rendering.png, self._frame, self._output_view(settings))

    def _output_view(self, settings: ViewSettings) -> OutputView:
        if settings not in self._views:
            if len(self._views) > MAX_VIEWS:
                self._views.clear()
            self._views[settings] = OutputView(settings, live=self._live)
        return self._views[settings]

    def record(self) -> dict[str, Any]:
        """The run's record and the state of the preview."""
        age_s = self.age_s
        return {
            **self._record(),
            "view": as_query(self.first_view),
            "spots": len(self.first_view.annotations.spots) + len(self.first_view.annotations.boxes),
            "temperatures": self._temperatures,
            "clients": self.clients,
            "video_clients": self._video_clients,
            "last_frame_age_s": None if age_s is None else round(age_s, 3),
            "state": self._past[-1][2] if self._past else None,
            "ready": self.ready,
        }

    def past(self, since: int) -> list[tuple[int, float | None, str]]:
        """(frame number, skew in ms if it is fused, state) of the recent frames after ``since``."""
        return [entry for entry in self._past if entry[0] > since]
