"""The contract of a sink; ``tests/pipeline/sinks/test_sink_contract.py`` checks every sink against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from fusepipe.core.frames import FusedFrame


@dataclass(frozen=True, slots=True)
class SinkReport:
    """What a sink has written: the final path or folder, frames and bytes, and a remark if any."""

    path: str
    frames: int
    bytes: int
    note: str = ""


class Sink(Protocol):
    """One output. ``check`` is called before the run starts; then one thread calls ``write`` and ``close``."""

    @property
    def label(self) -> str: ...

    @property
    def outputs(self) -> Sequence[Path]:
        """The files and folders it will write or replace: they must be none of the inputs."""

    def check(self) -> None:
        """Refuses what can be refused before anything is written or read; changes nothing.

        Raises :class:`SinkError` (:class:`OutputExistsError` for what --overwrite would allow).
        """

    def write(self, frame: FusedFrame) -> None:
        """Writes one frame; blocks as long as the medium takes. Raises :class:`SinkError`."""

    def close(self) -> SinkReport:
        """Finalises what was written so far, also after a failure elsewhere; may be called twice.

        Raises :class:`SinkError` when what was written cannot be finalised.
        """


@runtime_checkable
class StartableSink(Protocol):
    """A sink that is there before the first frame is: a server."""

    @property
    def announcement(self) -> str:
        """One line that tells people where to find it."""

    def start(self) -> None:
        """Called once by the thread that writes, before it waits for frames. Raises :class:`SinkError`."""
