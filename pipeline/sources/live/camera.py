"""Live cameras: RTSP, MJPEG over HTTP, V4L2 and any other URL that FFmpeg opens, with automatic reconnection.

The reading thread only decodes and hands over to a mailbox that keeps the newest frames, so the camera is always
drained and no lag builds up behind a slow stage.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

from fusepipe.core.frames import Band, Disconnected, Frame, Size
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.redact import redact_url
from fusepipe.core.units import S
from fusepipe.pipeline.backoff import CAMERA, CAMERA_LOGIN, CAMERA_MISFIT, Backoff
from fusepipe.pipeline.sources.base import CapturedItem, ClockKind, Overflow, SourceInfo, SourceItem
from fusepipe.pipeline.sources.live.blocked_threads import leave_behind
from fusepipe.pipeline.sources.live.connection import LiveConnection
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.live.damage import DamageMeter, damage_advice
from fusepipe.pipeline.sources.live.failures import MISFIT, PERMANENT, Cause, LiveError
from fusepipe.pipeline.sources.live.snapshots import SnapshotConnection
from fusepipe.pipeline.sources.reframing import AS_IT_IS, Reframing

log = logging.getLogger(__name__)

REPEAT_LOG_NS = 60 * S  # min time between log lines about a camera that keeps failing for the same reason
REPEAT_MISFIT_NS = 3600 * S  # the same for a reason that only a change of settings removes
UNKNOWN = SourceInfo(width=0, height=0, fps=None, frames=None, grey=False, bit_depth=8, codec="unknown")


class LiveSource:
    """A camera that may disconnect and reconnect; see :class:`fusepipe.pipeline.sources.base.Source`.

    ``capture_ns`` of its frames is on the camera's own clock and restarts with each connection (``stamp.epoch``).
    ``last_error`` is why it delivers nothing, without secrets, empty while it delivers.
    ``chance`` gives numbers from 0 to 1 for the jitter of the ``backoff``.
    """

    clock: ClockKind = "wall"
    overflow = Overflow.DROP_OLDEST

    def __init__(
        self,
        url: str,
        band: Band,
        options: LiveOptions | None = None,
        *,
        count_range: tuple[int, int] | None = None,
        reframing: Reframing = AS_IT_IS,
        radiometry: Radiometry | None = None,
        camera: str = "",
        stream_id: str = "",
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.band = band
        self.connections = 0
        self.failures: Counter[str] = Counter()
        self.last_error = ""
        self._url = url
        self._options = options or LiveOptions()
        self._count_range, self._camera, self._stream_id = count_range, camera, stream_id
        self._reframing, self._radiometry = reframing, radiometry
        self._chance = chance
        self._backoff = backoff or Backoff(CAMERA)
        self._index = 0
        self._connection: LiveConnection | SnapshotConnection | None = None
        self._down_since_ns: int | None = None
        self._damage = DamageMeter(damage_advice(url, self._options.transport))
        self._last_logged: tuple[Cause, int] | None = None
        self._problem: Callable[[Size], str] | None = None
        self._usable: Size | None = None  # the size that was last found to be without a problem

    @property
    def label(self) -> str:
        return redact_url(self._url)

    @property
    def identity(self) -> str:
        """The URL with its secrets."""
        return self._url

    @property
    def longest_block_ns(self) -> int:
        """FFmpeg's open and read timeouts; resolving a host name may take longer."""
        return max(self._options.open_timeout_ns, self._options.stall_timeout_ns)

    def open(self) -> SourceInfo:
        """Connects, decodes one frame and disconnects, as an engine may be compiled before frames are read.

        A camera that is offline is not an error: its size is unknown (0) then. Raises :class:`LiveError` for causes
        that do not go away by waiting, such as a wrong password.
        """
        # FFmpeg's calls do not let a signal through; in the main thread, Ctrl-C would take effect after their timeout
        result: Future[SourceInfo] = Future()
        thread = threading.Thread(target=self._probe_into, args=(result,), name=f"open-{self.band}")
        thread.start()
        try:
            info = result.result()
        except LiveError:
            thread.join()
            raise
        except BaseException:
            leave_behind(thread)
            raise
        thread.join()
        return info

    def _probe_into(self, result: Future[SourceInfo]) -> None:
        try:
            result.set_result(self._probe())
        except BaseException as error:  # noqa: BLE001 - raised by open
            result.set_exception(error)

    def _probe(self) -> SourceInfo:
        try:
            connection = self._connect()
            try:
                for item in connection.frames(threading.Event()):
                    if isinstance(item, Frame):
                        return connection.info(item)
            finally:
                connection.close()
        except LiveError as error:
            if error.cause in PERMANENT:
                raise
            self.last_error = str(error)
            return replace(UNKNOWN, fps=self._options.fps, offline_reason=str(error).removeprefix(f"{self.label}: "))
        return UNKNOWN

    def frames(self, stop: threading.Event) -> Iterator[SourceItem]:
        """Frames of successive connections, until ``stop``; see the contract."""
        while not stop.is_set():
            begun_ns = last_ns = None
            damaged = 0
            try:
                self._connection = self._connect()
                for item in self._connection.frames(stop):
                    if isinstance(item, Frame):
                        self._check_size(item)
                        begun_ns, last_ns = begun_ns or item.arrival_ns, item.arrival_ns
                        self._note_recovery(item)
                    damaged = self._note_damage(self._connection, item, damaged)
                    yield item
            except LiveError as error:
                if begun_ns is not None and last_ns is not None:
                    self._backoff.delivered(last_ns - begun_ns)
                wait_ns = self._note_failure(error)
                yield Disconnected(self.band, str(error.cause), time.monotonic_ns())
                stop.wait(wait_ns / S)
            finally:
                self._disconnect()

    def require(self, problem: Callable[[Size], str]) -> None:
        """Images of a size (width, height) with a ``problem`` count as not connected; called before the first frame."""
        self._problem = problem

    def close(self) -> None:
        self._disconnect()

    # -- one connection

    def _connect(self) -> LiveConnection | SnapshotConnection:
        connect = LiveConnection if self._options.poll_ns is None else SnapshotConnection
        connection = connect(
            self._url,
            self.label,
            self._options,
            band=self.band,
            epoch=self.connections,
            index=self._index,
            count_range=self._count_range,
            reframing=self._reframing,
            radiometry=self._radiometry,
            camera=self._camera,
            stream_id=self._stream_id,
        )
        self.connections += 1
        if connection.format:
            self._options = replace(self._options, format=connection.format)
            log.info(
                "%s: %s: read as format: %s, which FFmpeg does not recognise", self.band, self.label, connection.format
            )
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._index = self._connection.index
            self._connection.close()
            self._connection = None

    # -- failure and recovery

    def _check_size(self, frame: Frame) -> None:
        size = (frame.width, frame.height)
        if self._problem is None or size == self._usable:
            return
        if text := self._problem(size):
            raise LiveError(self.label, Cause.SHAPE, text)
        self._usable = size

    def _note_recovery(self, frame: Frame) -> None:
        if self._down_since_ns is not None:
            down_s = (frame.arrival_ns - self._down_since_ns) / S
            again = "reconnected" if self._index else "connected"  # frames so far, of former connections
            size = frame.width, frame.height
            log.info("%s: %s: %s after %.1f s (%dx%d)", self.band, self.label, again, down_s, *size)
            self._down_since_ns = self._last_logged = None
        self.last_error = ""

    def _note_damage(self, connection: LiveConnection | SnapshotConnection, item: CapturedItem, before: int) -> int:
        """Logs a high share of damaged frames; takes and returns the connection's count of them."""
        if text := self._damage.push(item.arrival_ns, damaged=connection.damaged > before):
            log.warning("%s: %s: %s", self.band, self.label, text)
        return connection.damaged

    def _note_failure(self, error: LiveError) -> int:
        """Counts and logs a failure; returns how long to wait, in nanoseconds."""
        now_ns = time.monotonic_ns()
        self._down_since_ns = self._down_since_ns or now_ns
        self.failures[str(error.cause)] += 1
        self.last_error = str(error)
        misfit = error.cause in MISFIT
        policy = CAMERA_LOGIN if error.cause is Cause.AUTHENTICATION else CAMERA_MISFIT if misfit else None
        wait_ns = self._backoff.wait_ns(self._chance(), policy)
        if (
            self._last_logged is None
            or self._last_logged[0] is not error.cause
            or now_ns - self._last_logged[1] > (REPEAT_MISFIT_NS if misfit else REPEAT_LOG_NS)
        ):
            self._last_logged = (error.cause, now_ns)
            log.warning(
                "%s: %s; retrying in %.1f s%s", self.band, error, wait_ns / S, ", then less often" if misfit else ""
            )
        return wait_ns
