"""A camera that gives one image for each request: its URL is fetched again at an interval."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fusepipe.core.frames import Frame, UnreadableFrame
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.live.connection import LiveConnection
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.live.failures import Cause, LiveError


class SnapshotConnection:
    """A series of requests, with the interface of :class:`LiveConnection`; each frame is the image of one response.

    Each response has its own connection, with the timeouts of ``options``. The capture time of an image is that of its
    arrival: HTTP gives times in whole seconds of the camera's own clock. The series ends with the first failure.
    """

    def __init__(self, url: str, label: str, options: LiveOptions, *, index: int = 0, **settings: Any) -> None:
        assert options.poll_ns is not None
        self.index, self.damaged, self.format = index, 0, ""
        self._poll_ns = options.poll_ns
        self._url, self._label, self._options, self._settings = url, label, options, settings
        self._info: SourceInfo | None = None

    def info(self, first: Frame) -> SourceInfo:
        """The properties of the images, after the first one has arrived."""
        assert self._info is not None
        return self._info

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """An image per interval, until ``stop``; raises :class:`LiveError` where a request fails.

        The interval is from one request to the next. Where the camera takes longer, requests are left out.
        """
        due_ns = time.monotonic_ns()
        while not stop.is_set():
            yield self._snapshot(stop)
            late_ns = max(0, time.monotonic_ns() - due_ns)
            due_ns += self._poll_ns * (1 + late_ns // self._poll_ns)
            stop.wait((due_ns - time.monotonic_ns()) / S)

    def close(self) -> None:
        """Nothing to release: each response was closed."""

    def _snapshot(self, stop: threading.Event) -> Frame:
        connection = LiveConnection(self._url, self._label, self._options, index=self.index, **self._settings)
        try:
            for item in connection.frames(stop):
                if isinstance(item, UnreadableFrame):
                    cut = item.reason.startswith("truncated")
                    raise LiveError(self._label, Cause.ENDED if cut else Cause.CODEC, item.reason)
                if self._info is None:
                    self._info = replace(connection.info(item), fps=S / self._poll_ns)
                return item
        finally:
            self.index, self.damaged = connection.index, self.damaged + connection.damaged
            connection.close()
        raise LiveError(self._label, Cause.CODEC, "the response has no image")
