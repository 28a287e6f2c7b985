"""A sink from which the program takes the frames one by one, in a thread of its own."""

from __future__ import annotations

import threading
from pathlib import Path

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import FusedFrame
from fusepipe.pipeline.sinks.base import SinkReport

POLL_S = 0.2  # how often a waiting sink looks whether the program has ended


class HandoverSink:
    """Holds one frame until :meth:`take`; ``write`` waits for that or, with ``newest``, replaces a frame not taken."""

    label = "the program"

    def __init__(self) -> None:
        self.newest = False
        self._frames = 0
        self._frame: FusedFrame | None = None
        self._closed = self._left = False
        self._changed = threading.Condition()

    @property
    def outputs(self) -> list[Path]:
        return []

    def check(self) -> None:
        """Never fails."""

    def write(self, frame: FusedFrame) -> None:
        """Raises :class:`SinkError` if the program ended without leaving its loop: nobody will take another frame."""
        with self._changed:
            while self._frame is not None and not self.newest and not self._left:
                if not threading.main_thread().is_alive():
                    raise SinkError("the program has ended while frames were left")
                self._changed.wait(POLL_S)
            if self._left:
                return
            if not threading.main_thread().is_alive():
                raise SinkError("the program has ended while frames were left")
            self._frame = frame
            self._frames += 1
            self._changed.notify_all()

    def close(self) -> SinkReport:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return SinkReport(self.label, self._frames, 0)

    # -- called by the program

    def take(self, timeout_s: float) -> FusedFrame | None:
        """The next frame; ``None`` after ``timeout_s`` without one, and once :attr:`ended`."""
        with self._changed:
            if self._frame is None and not self._closed:
                self._changed.wait(timeout_s)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            return frame

    @property
    def ended(self) -> bool:
        """Whether no further frame comes."""
        with self._changed:
            return self._closed and self._frame is None

    def leave(self) -> None:
        """The program takes no more frames: those to come are discarded, and no write waits."""
        with self._changed:
            self._left, self._frame = True, None
            self._changed.notify_all()
