"""A file with one image after another that FFmpeg does not read, as a source: raw samples, FLIR's sequences."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.image_files import UnreadableImage
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import DEFAULT_FPS, ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.files.frame_rate import exact_rate
from fusepipe.pipeline.sources.files.image_reader import ImageOptions, ImageReader, ImageValues

NANOSECOND = Fraction(1, S)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of such a file, or why it cannot be read; ``captured_ns`` is its UNIX time, if the file has it."""

    image: ImageValues | str
    captured_ns: int | None = None


class FrameFormat(Protocol):
    """A file format. ``codec`` is its name."""

    @property
    def codec(self) -> str: ...

    def count(self, path: Path) -> int | None:
        """How many images a file has, where that is known without reading them. Raises :class:`SourceError`."""

    def images(self, path: Path) -> Iterator[StoredImage]:
        """The images in order. Raises ``OSError``."""


class FrameFileSource:
    """Frames at the capture times of the file, counted from the first one; else at index / fps.

    ``fps`` of the options replaces the times of the file.
    """

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(self, path: Path, band: Band, form: FrameFormat, options: ImageOptions) -> None:
        self.band = band
        self._path, self._format, self._options = path, form, options
        self._reader = ImageReader(band, options)
        self._first_ns: int | None = None  # UNIX time of the first image, if the file's times are used

    @property
    def label(self) -> str:
        return str(self._path)

    @property
    def files(self) -> list[Path]:
        """The file that it reads."""
        return [self._path]

    def open(self) -> SourceInfo:
        problem = "is empty"
        times_ns: list[int] = []
        info: SourceInfo | None = None
        try:
            count = self._format.count(self._path)
            for stored in self._format.images(self._path):
                if info is None and isinstance(stored.image, ImageValues):
                    info = self._reader.open(
                        stored.image, self._path, fps=self._options.fps or DEFAULT_FPS, frames=count or 0
                    )
                elif isinstance(stored.image, str):
                    problem = stored.image
                if stored.captured_ns is not None:
                    times_ns.append(stored.captured_ns)
                if info is not None and (stored.captured_ns is None or len(times_ns) == 2):
                    break
        except UnreadableImage as error:
            raise SourceError(f"{self.label}: cannot be decoded: {error}") from error
        except OSError as error:
            raise SourceError(f"{self.label}: cannot be read: {error.strerror or error}") from error
        if info is None:
            raise SourceError(f"{self.label}: has no image that can be decoded: {problem}")
        timed = bool(times_ns) and self._options.fps is None
        if timed:
            self._first_ns = times_ns[0]
        fps = info.fps
        if timed and len(times_ns) == 2 and times_ns[1] > times_ns[0]:
            fps = S / (times_ns[1] - times_ns[0])
        return replace(info, fps=fps, frames=count, codec=self._format.codec, timed=timed)

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        fps = exact_rate(self._options.fps or DEFAULT_FPS)
        last_ns = -1
        for index, stored in enumerate(self._format.images(self._path)):
            if stop.is_set():
                return
            capture_ns = int(index * S / fps)
            if self._first_ns is not None:  # a camera's clock may be set back
                capture_ns = max(last_ns + 1, (stored.captured_ns or 0) - self._first_ns)
            last_ns = capture_ns
            name = f"{self._path.stem}_{index:06d}"
            try:
                if isinstance(stored.image, str):
                    raise UnreadableImage(stored.image)
                frame = self._reader.frame(
                    stored.image, index=index, capture_ns=capture_ns, pts=capture_ns, time_base=NANOSECOND, name=name
                )
            except UnreadableImage as error:
                yield UnreadableFrame(self.band, index, str(error), capture_ns, name, time.monotonic_ns())
                continue
            yield frame

    def close(self) -> None:
        """Nothing to release."""
