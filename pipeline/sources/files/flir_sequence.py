"""FLIR's sequences of radiometric images: SEQ (samples), CSQ (JPEG-LS) and single FFF files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from fusepipe.pipeline.sources.files.flir_files import FFF, FlirError, read_fff
from fusepipe.pipeline.sources.files.frame_file import StoredImage
from fusepipe.pipeline.sources.files.image_reader import ImageValues


def is_flir_sequence(path: Path) -> bool:
    """Whether a file begins as an FFF does. Raises ``OSError``."""
    with path.open("rb") as file:
        return file.read(len(FFF)) == FFF


class FlirSequence:
    """The format; each image has its own time and calibration."""

    codec = "flir sequence"

    def count(self, path: Path) -> None:
        """Not known without reading the file."""

    def images(self, path: Path) -> Iterator[StoredImage]:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = 0
            while 0 <= at < len(data):
                try:
                    image = read_fff(data, at)
                except FlirError as error:
                    yield StoredImage(str(error))
                    at = data.find(FFF, at + 1)
                    continue
                yield StoredImage(ImageValues(image.counts, "little", image.radiometry), image.captured_ns)
                at = max(image.end, at + 1)
