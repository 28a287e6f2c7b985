"""Image files of fused frames: written to a temporary file and renamed, so that none is ever incomplete."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core import image_files, image_formats
from fusepipe.core.errors import OutputExistsError, SinkError
from fusepipe.core.files import why_unwritable
from fusepipe.core.frames import FusedFrame
from fusepipe.core.text import counted
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sinks.files.partial_file import write_error


class ImageFolderSink:
    """Writes ``FOLDER/NAME.FORMAT``; ``NAME`` is the stem of the inputs or, for video, the index of the pair."""

    def __init__(self, folder: Path, image_format: str = "png", *, overwrite: bool = False) -> None:
        self._folder = folder
        self._suffix = f".{image_format}"
        self._overwrite = overwrite
        self._frames = 0
        self._bytes = 0
        self._written: set[str] = set()

    @property
    def label(self) -> str:
        return f"{self._folder}/*{self._suffix}"

    @property
    def outputs(self) -> list[Path]:
        return [self._folder]

    def check(self) -> None:
        folder = self._folder
        if folder.exists() and not folder.is_dir():
            raise SinkError(f"{folder}: is a file; images need a folder")
        if problem := why_unwritable(folder / f"0{self._suffix}"):
            raise SinkError(f"{folder}: {problem}")
        if folder.is_dir() and not self._overwrite:
            existing = next((p for p in folder.iterdir() if p.suffix.lower() in image_formats.READ_SUFFIXES), None)
            if existing is not None:
                raise OutputExistsError(
                    f"{folder}: already contains images ({existing.name}); use --overwrite or another folder"
                )

    def write(self, frame: FusedFrame) -> None:
        path = self._folder / f"{frame.name or format(frame.index, '06d')}{self._suffix}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            image_files.write_pixels(path, image_files.to_bgr(frame), overwrite=self._overwrite)
            self._bytes += path.stat().st_size
        except FileExistsError as error:
            raise OutputExistsError(f"{path}: already exists; use --overwrite or another folder") from error
        except OSError as error:
            raise write_error(f"{path}: cannot be written: {error.strerror or error}", error) from error
        self._frames += 1
        self._written.add(path.name)

    def close(self) -> SinkReport:
        return SinkReport(str(self._folder), self._frames, self._bytes, self._note())

    def _note(self) -> str:
        """With --overwrite the folder may contain images of an earlier run, which are not part of this one."""
        if not self._overwrite or not self._folder.is_dir():
            return ""
        images = [p for p in self._folder.iterdir() if p.suffix.lower() in image_formats.READ_SUFFIXES]
        others = sum(p.name not in self._written for p in images)
        return f"{counted(others, 'earlier image')} kept" if others else ""


class ImageFileSink:
    """Writes the single frame of a run to a file."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._bytes = 0
        self._frames = 0

    @property
    def label(self) -> str:
        return str(self._path)

    @property
    def outputs(self) -> list[Path]:
        return [self._path]

    def check(self) -> None:
        if self._path.is_dir():
            raise SinkError(f"{self._path}: is a folder; specify an image file such as {self._path / 'fused.png'}")
        if self._path.suffix.lower() not in image_formats.WRITTEN_SUFFIXES:
            kinds = ", ".join(sorted(image_formats.WRITTEN_SUFFIXES))
            raise SinkError(f"{self._path}: unknown image format {self._path.suffix!r}; use one of {kinds}")
        if problem := why_unwritable(self._path):
            raise SinkError(f"{self._path}: {problem}")
        if self._path.exists() and not self._overwrite:
            raise OutputExistsError(f"{self._path}: already exists; use --overwrite or another name")

    def write(self, frame: FusedFrame) -> None:
        if self._frames:
            raise SinkError(f"{self._path}: is one image, but the inputs have more than one pair; specify a folder")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            image_files.write_pixels(self._path, image_files.to_bgr(frame), overwrite=self._overwrite)
            self._bytes = self._path.stat().st_size
        except FileExistsError as error:
            raise OutputExistsError(f"{self._path}: already exists; use --overwrite or another name") from error
        except OSError as error:
            raise write_error(f"{self._path}: cannot be written: {error.strerror or error}", error) from error
        self._frames = 1

    def close(self) -> SinkReport:
        return SinkReport(str(self._path), self._frames, self._bytes)
