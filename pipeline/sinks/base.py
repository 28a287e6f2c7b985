"""The contract of a sink; ``tests/pipeline/sinks/test_sink_contract.py`` checks every sink against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from fusepipe.core.frames import FusedFrame


@dataclass(frozen=True, slots=True)
class SinkReport:
    """What a sink has written: the final path or URL, frames, bytes, and a note for the user if any."""

    path: str
    frames: int
    bytes: int
    note: str = ""

    def followed_by(self, later: SinkReport) -> SinkReport:
        """The report of a sink and of its replacement: the later path and note, the sum of frames and bytes."""
        return replace(later, frames=self.frames + later.frames, bytes=self.bytes + later.bytes)


class Sink(Protocol):
    """One output. ``check`` is called before the run starts; then one thread calls ``write`` and ``close``."""

    @property
    def label(self) -> str:
        """Path or URL without secrets, for messages."""

    @property
    def outputs(self) -> Sequence[Path]:
        """The files and folders it will write or replace: none of them may be an input."""

    def check(self) -> None:
        """Detects problems before anything is read or written; changes nothing.

        Raises :class:`SinkError` (:class:`OutputExistsError` for what --overwrite would allow).
        """

    def write(self, frame: FusedFrame) -> None:
        """Writes one frame; blocks as long as the medium takes. Raises :class:`SinkError`."""

    def close(self) -> SinkReport:
        """Finalises what has been written, also after a failure elsewhere; may be called twice.

        Raises :class:`SinkError` if the output cannot be finalised.
        """


@runtime_checkable
class StartableSink(Protocol):
    """A sink that is available before its first frame, such as a server."""

    @property
    def announcement(self) -> str:
        """One line for the user: where to find it."""

    def start(self) -> None:
        """Called once by the thread that writes, before it waits for frames. Raises :class:`SinkError`."""
