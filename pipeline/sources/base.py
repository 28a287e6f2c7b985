"""The contract of a source; ``tests/pipeline/sources/test_source_contract.py`` checks every source against it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from fusepipe.core.counts import ByteOrder, CountLevels
from fusepipe.core.frames import Band, Disconnected, Frame, Size, UnreadableFrame
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sources.image_colour import ImageColour

ClockKind = Literal["media", "wall"]
DEFAULT_FPS = 25.0  # of recordings that have no times
CapturedItem = Frame | UnreadableFrame
SourceItem = CapturedItem | Disconnected
"""What a source yields."""


class Overflow(StrEnum):
    """What a full mailbox does with another frame."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The properties of a source, as far as known before the first frame.

    ``fps`` is nominal; ``frames`` is ``None`` if unknown; ``bit_depth`` is that of the luma. ``start_ns`` is the
    capture time of the first frame on the source's own timeline; ``notes`` are remarks for the user, such as ``is
    interlaced``. A live camera that is offline has ``width`` and ``height`` 0, and an ``offline_reason``. ``levels``
    are those of the first image with 16-bit counts. ``timed``: capture times are measured, not counted by a frame rate.
    ``colour`` is that of the first image. ``byte_order`` is that in which 16-bit samples are read, where a setting can
    change it. ``mapped``: the source has mapped its values, such as degrees, by the rig's ``range`` to 0..65535.
    ``radiometry`` is that of the first image, where it is known.
    """

    width: int
    height: int
    fps: float | None
    frames: int | None
    grey: bool
    bit_depth: int
    codec: str
    start_ns: int = 0
    notes: tuple[str, ...] = ()
    offline_reason: str = ""
    levels: CountLevels | None = None
    timed: bool = True
    colour: ImageColour = "grey"
    byte_order: ByteOrder | None = None
    mapped: bool = False
    radiometry: Radiometry | None = None

    @property
    def known(self) -> bool:
        """Whether a frame has been decoded."""
        return self.width > 0


class Source(Protocol):
    """One camera or file: ``open``, then ``frames`` once, then ``close``.

    The thread that opens it hands it over to the thread that reads and closes it; never two at a time.

    ``clock`` is ``media`` for recordings, whose frames are never dropped (``overflow`` blocks), and ``wall`` for live
    cameras (``overflow`` drops the oldest frame and counts it).
    """

    @property
    def band(self) -> Band: ...
    @property
    def clock(self) -> ClockKind: ...
    @property
    def overflow(self) -> Overflow: ...
    @property
    def label(self) -> str:
        """The URL with secrets redacted, for messages."""

    def open(self) -> SourceInfo:
        """Opens it and returns its properties; raises :class:`SourceError`. Called once."""

    def frames(self, stop: threading.Event) -> Iterator[SourceItem]:
        """The frames in order of capture, with ``index`` 0, 1, 2, …

        A frame that cannot be decoded is yielded as :class:`UnreadableFrame`, each failure of a live camera's
        connection as :class:`Disconnected`. Ends at the end of the
        media, or after ``stop`` is set: within 0.2 s, or for a silent live camera within its stall timeout (a read of
        FFmpeg cannot be interrupted).
        ``arrival_ns`` of each frame is ``time.monotonic_ns()`` when the frame was complete.
        """

    def close(self) -> None:
        """Releases all resources; called by the reading thread, also after an error; may be called twice."""


@runtime_checkable
class MayBlock(Protocol):
    """A source whose reads may block for longer than a run waits for them when it ends."""

    @property
    def longest_block_ns(self) -> int:
        """The timeout after which a blocked read returns."""


@runtime_checkable
class ChecksSizes(Protocol):
    """A live camera whose images of an unusable size count as not connected, until they can be used again."""

    def require(self, problem: Callable[[Size], str]) -> None:
        """Asks ``problem`` for the (width, height) of frames from now on: why they cannot be used, else empty."""


@runtime_checkable
class HasImageTimes(Protocol):
    """A source of image files that may have a capture time each."""

    def capture_times(self) -> tuple[list[int], str] | None:
        """The capture time of each image in ns, and where from; ``None`` where they are not known for all."""

    def use_times(self, times_ns: Sequence[int], info: SourceInfo) -> SourceInfo:
        """Takes these capture times instead of index / fps; returns ``info`` as it is with them."""


@runtime_checkable
class HasIdentity(Protocol):
    """A source that can be compared with another one of its kind."""

    @property
    def identity(self) -> str | int:
        """Equal for two opened sources that read the same stream; never shown: a URL may include a password."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A source that reads files, which no sink may overwrite."""

    @property
    def files(self) -> Sequence[Path]: ...
