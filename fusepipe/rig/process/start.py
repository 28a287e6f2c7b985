"""Starting a rig while others run: in a thread of its own, with a back-off between attempts. No state of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from fusepipe.core.errors import (
    ConfigError,
    DiskFullError,
    FusepipeError,
    OutputExistsError,
    SinkError,
    SinkSetupError,
    SourceError,
)
from fusepipe.core.log_context import RIG_NAME
from fusepipe.pipeline.backoff import CAMERA_LOGIN, FULL_DISK, RIG_START, BackoffPolicy
from fusepipe.pipeline.sources.live.blocked_threads import leave_behind

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.api import Pipeline


class StartThread:
    """Opens ``pipeline`` in a thread of its own, and calls ``done`` there afterwards.

    Opening may block in the network or compile an engine for minutes; neither can be interrupted.
    """

    def __init__(self, pipeline: Pipeline, done: Callable[[], None]) -> None:
        self._pipeline, self._done = pipeline, done
        self._lock = threading.Lock()
        self._abandoned = False
        self.finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, name=f"{pipeline.rig.name}/start")
        self._thread.start()

    def raise_error(self) -> None:
        """Raises why the pipeline could not be opened; call it once :attr:`finished`."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self, timeout_s: float) -> None:
        """Closes what was opened, at the latest when opening ends; waits at most ``timeout_s`` for that."""
        self._thread.join(timeout_s)
        with self._lock:
            self._abandoned = True
            if self.finished:
                self._pipeline.close()
            else:
                leave_behind(self._thread)

    def _open(self) -> None:
        RIG_NAME.set(self._pipeline.rig.name)
        try:
            self._pipeline.open()
        except BaseException as error:  # noqa: BLE001 - raised by raise_error
            self._error = error
        with self._lock:
            self.finished = True
            if self._abandoned:
                self._pipeline.close()
        self._done()


def retry_policy(rig: Rig, error: BaseException) -> BackoffPolicy | None:
    """How to retry a failed start; ``None`` if the same start would fail again.

    A camera, the network, a port or a disk may recover; a wrong setting, an output that exists and a missing engine do
    not. Recordings are not retried.
    """
    if "live" not in (rig.infrared.kind, rig.visible.kind):
        return None
    from fusepipe.pipeline.sources.live.failures import Cause, LiveError  # with FFmpeg, which images do not need

    if isinstance(error, LiveError) and error.cause is Cause.AUTHENTICATION:
        return CAMERA_LOGIN
    if isinstance(error, DiskFullError):
        return FULL_DISK
    if isinstance(error, OutputExistsError | SinkSetupError):
        return None
    return RIG_START if isinstance(error, SourceError | SinkError | OSError) else None


def with_rig_name(rig: Rig, error: BaseException) -> FusepipeError:
    """The error with the rig's name in front of its message; unexpected exceptions are wrapped.

    Errors of a rig file name its line and key already; commands without a rig file have no rigs for their user.
    """
    if not isinstance(error, FusepipeError):
        text = f"{type(error).__name__}: {error}"
        wrapped = FusepipeError(text if rig.from_options else f"{rig.name}: {text}")
        wrapped.__cause__ = error
        return wrapped
    named = rig.from_options or (isinstance(error, ConfigError) and error.problems)
    if not named and not str(error).startswith(f"{rig.name}: "):
        error.args = (f"{rig.name}: {error}",)
    return error
