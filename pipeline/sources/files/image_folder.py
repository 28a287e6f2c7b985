"""Image folders (and single images) as a source: files in natural order, paired by stem or by time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusepipe.core import image_files
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.pipeline.sources.base import ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.files.frame_rate import exact_rate

DEFAULT_FPS = 25.0
NANOSECONDS = 1_000_000_000


class ImageFolderSource:
    """Frames from image files. ``capture_ns`` is index / fps, as a folder has no timestamps."""

    clock: ClockKind = "media"
    overflow = Overflow.BLOCK

    def __init__(
        self,
        path: Path | Sequence[Path],
        band: Band,
        *,
        fps: float | None = None,
        count_range: tuple[int, int] | None = None,
        camera: str = "",
        stream_id: str = "",
    ) -> None:
        self.band = band
        self._path = path
        self._fps = fps or DEFAULT_FPS
        self._count_range = count_range
        self._camera = camera
        self._stream_id = stream_id
        self._files: list[Path] = []

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
                pixels = image_files.read_pixels(path)
            except (image_files.UnreadableImage, OSError) as error:
                first = first or error  # reported when it is read
                continue
            return SourceInfo(
                width=pixels.shape[1],
                height=pixels.shape[0],
                fps=self._fps,
                frames=len(self._files),
                grey=pixels.ndim == 2,
                bit_depth=8 * pixels.dtype.itemsize,
                codec=path.suffix[1:].lower(),
            )
        raise SourceError(f"{self.label}: none of its {len(self._files)} images can be decoded ({first})") from first

    def frames(self, stop: threading.Event) -> Iterator[Frame | UnreadableFrame]:
        fps = exact_rate(self._fps)
        for index, path in enumerate(self._files):
            if stop.is_set():
                return
            capture_ns = int(index * NANOSECONDS / fps)
            try:
                pixels = image_files.read_pixels(path)
            except image_files.UnreadableImage as error:
                yield UnreadableFrame(self.band, index, str(error), capture_ns, path.stem, time.monotonic_ns())
                continue
            except OSError as error:
                reason = error.strerror or type(error).__name__
                yield UnreadableFrame(self.band, index, reason, capture_ns, path.stem, time.monotonic_ns())
                continue
            planes = (
                image_files.infrared_planes(pixels)
                if self.band is Band.INFRARED
                else image_files.visible_planes(pixels, self._count_range)
            )
            yield Frame(
                band=self.band,
                planes=planes,
                index=index,
                capture_ns=capture_ns,
                pts=index,
                time_base=1 / fps,
                camera=self._camera,
                stream_id=self._stream_id,
                name=path.stem,
                arrival_ns=time.monotonic_ns(),
            )

    def close(self) -> None:
        """Nothing to release."""
