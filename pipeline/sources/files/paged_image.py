"""A multi-page TIFF or an animated WebP as a source: each page is a frame, as each frame of a video."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from fusepipe.core import image_pages
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, Pixels, UnreadableFrame
from fusepipe.core.image_files import UnreadableImage, stated_byte_order
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import DEFAULT_FPS, ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.files.frame_rate import exact_rate
from fusepipe.pipeline.sources.files.image_reader import ImageOptions, ImageReader, ImageValues

MILLISECOND = Fraction(1, 1000)


class PagedImageSource:
    """Frames from the pages of one file: at the times of a WebP animation, else at index / fps."""

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(self, path: Path, band: Band, options: ImageOptions) -> None:
        self.band = band
        self._path, self._options = path, options
        self._data = b""
        self._reader = ImageReader(band, options)

    @property
    def label(self) -> str:
        return str(self._path)

    @property
    def files(self) -> list[Path]:
        """The file that it reads."""
        return [self._path]

    def open(self) -> SourceInfo:
        self._data = self._path.read_bytes()
        count = image_pages.count_pages(self._data)
        for values, duration_ms in image_pages.read_pages(self._path, self._data):
            if values is not None:
                fps = self._options.fps or (DEFAULT_FPS if duration_ms is None else 1000 / duration_ms)
                try:
                    info = self._reader.open(self._image(values), self._path, fps=fps, frames=count)
                except UnreadableImage as error:
                    raise SourceError(f"{self.label}: cannot be decoded: {error}") from error
                text = image_pages.unused_images(self._data)
                return replace(info, notes=(*info.notes, text) if text else info.notes)
        raise SourceError(f"{self.label}: none of its {count} pages can be decoded")

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        fps = exact_rate(self._options.fps or DEFAULT_FPS)
        elapsed_ms = 0
        for index, (values, duration_ms) in enumerate(image_pages.read_pages(self._path, self._data)):
            if stop.is_set():
                return
            timed = duration_ms is not None and self._options.fps is None
            capture_ns = elapsed_ms * S // 1000 if timed else int(index * S / fps)
            elapsed_ms += duration_ms or 0
            name = f"{self._path.stem}_{index:06d}"
            try:
                frame = self._reader.frame(
                    self._image(values),
                    index=index,
                    capture_ns=capture_ns,
                    pts=capture_ns * 1000 // S if timed else index,
                    time_base=MILLISECOND if timed else 1 / fps,
                    name=name,
                )
            except UnreadableImage as error:
                reason = f"page {index + 1} cannot be decoded: {error}"
                yield UnreadableFrame(self.band, index, reason, capture_ns, name, time.monotonic_ns())
                continue
            yield frame

    def _image(self, values: Pixels | None) -> ImageValues:
        if values is None:
            raise UnreadableImage("damaged")
        return ImageValues(values, stated_byte_order(self._data))

    def close(self) -> None:
        self._data = b""
