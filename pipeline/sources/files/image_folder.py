"""Image folders (and single images) as a source: files in natural order, paired by stem or by time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from fusepipe.core import image_files
from fusepipe.core.counts import ByteOrder
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.image_pages import unused_images
from fusepipe.core.natural_order import natural_key
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import DEFAULT_FPS, ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.files.frame_rate import exact_rate
from fusepipe.pipeline.sources.files.image_reader import ImageOptions, ImageReader
from fusepipe.pipeline.sources.files.image_times import capture_times_ns
from fusepipe.pipeline.sources.reframing import AS_IT_IS, Reframing


class ImageFolderSource:
    """Frames from image files. ``capture_ns`` is index / fps, or, after :meth:`use_times`, that of each file."""

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(
        self,
        path: Path | Sequence[Path],
        band: Band,
        *,
        fps: float | None = None,
        value_range: tuple[float, float] | None = None,
        byte_order: ByteOrder | None = None,
        reframing: Reframing = AS_IT_IS,
        camera: str = "",
        stream_id: str = "",
        radiometry: Radiometry | None = None,
    ) -> None:
        self.band = band
        self._path = path
        self._fps = fps or DEFAULT_FPS
        self._options = ImageOptions(fps, value_range, byte_order, reframing, camera, stream_id, radiometry)
        self._files: list[Path] = []
        self._times_ns: list[int] | None = None
        self._names: dict[Path, str] = {}
        self._reader = ImageReader(band, self._options)

    @property
    def label(self) -> str:
        return str(self._path) if isinstance(self._path, Path) else str(self._path[0])

    @property
    def files(self) -> list[Path]:
        """The files that it reads; known after :meth:`open`."""
        return list(self._files)

    @property
    def names(self) -> list[str]:
        """The stems, in order; known after :meth:`open`."""
        return [p.stem for p in self._files]

    def open(self) -> SourceInfo:
        self._files = image_files.list_images(self._path) if isinstance(self._path, Path) else list(self._path)
        first: Exception | None = None
        for path in self._files:
            try:
                data = path.read_bytes()
                info = self._reader.open(self._reader.decode(data), path, fps=self._fps, frames=len(self._files))
            except (image_files.UnreadableImage, OSError) as error:
                first = first or error  # reported when it is read
                continue
            if text := unused_images(data):
                text = text if len(self._files) == 1 else f"({path.name}) {text}"
            return replace(info, notes=(*info.notes, text) if text else info.notes)
        if self._files == [self._path]:
            raise SourceError(f"{self.label}: cannot be decoded: {first}") from first
        raise SourceError(f"{self.label}: none of its {len(self._files)} images can be decoded ({first})") from first

    def capture_times(self) -> tuple[list[int], str] | None:
        """The capture time of each file in UNIX nanoseconds, and where from; ``None`` where not all have one.

        Also ``None`` with an explicit ``fps``, which replaces them. Call it after :meth:`open`.
        """
        return None if self._options.fps else capture_times_ns(self._files)

    def use_times(self, times_ns: Sequence[int], info: SourceInfo) -> SourceInfo:
        """Takes these times, of :meth:`capture_times`, for the frames; returns ``info`` with what follows from them."""
        order = sorted(range(len(self._files)), key=lambda index: times_ns[index])
        self._files = [self._files[index] for index in order]
        self._times_ns = [times_ns[index] for index in order]
        steps_ns = sorted(after - before for before, after in pairwise(self._times_ns))
        fps = S / steps_ns[len(steps_ns) // 2] if steps_ns else info.fps
        return replace(info, timed=True, start_ns=self._times_ns[0], fps=fps)

    def use_names(self, names: Mapping[str, str]) -> None:
        """Takes these names for the frames of the stems in ``names``, and their natural order."""
        self._names = {path: names.get(path.stem, path.stem) for path in self._files}
        self._files.sort(key=lambda path: natural_key(self._names[path]))

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        fps = exact_rate(self._fps)
        for index, path in enumerate(self._files):
            if stop.is_set():
                return
            name = self._names.get(path, path.stem)
            capture_ns = int(index * S / fps) if self._times_ns is None else self._times_ns[index]
            try:
                frame = self._reader.frame(
                    self._reader.decode(path.read_bytes()),
                    index=index,
                    capture_ns=capture_ns,
                    pts=index if self._times_ns is None else capture_ns,
                    time_base=1 / fps if self._times_ns is None else Fraction(1, S),
                    name=name,
                )
            except image_files.UnreadableImage as error:
                yield UnreadableFrame(self.band, index, str(error), capture_ns, name, time.monotonic_ns())
                continue
            except OSError as error:
                reason = error.strerror or type(error).__name__
                yield UnreadableFrame(self.band, index, reason, capture_ns, name, time.monotonic_ns())
                continue
            yield frame

    def close(self) -> None:
        """Nothing to release."""
