"""Files of raw samples whose layout is described: frames one after another, as many thermal cameras write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Size
from fusepipe.pipeline.sources.files.frame_file import StoredImage
from fusepipe.pipeline.sources.files.image_reader import ImageValues

RawSamples = Literal["uint8", "uint16", "int16", "float32", "yuyv"]

_TYPES: dict[RawSamples, str] = {"uint8": "<u1", "uint16": "<u2", "int16": "<i2", "float32": "<f4", "yuyv": "<u2"}
MAX_HEADER = 4096  # a rest of the file up to this many bytes is taken for a header in a message


@dataclass(frozen=True, slots=True)
class RawFormat:
    """``size`` is (width, height); ``header`` bytes come once, ``frame_header`` bytes before each frame.

    RawSamples are little-endian; ``byte_order`` of the camera exchanges their bytes. Of ``yuyv`` the luma is taken.
    """

    size: Size
    samples: RawSamples = "uint16"
    header: int = 0
    frame_header: int = 0
    codec: str = "raw"

    @property
    def frame_bytes(self) -> int:
        """The size of a frame with its header."""
        return self.frame_header + self.size[0] * self.size[1] * np.dtype(_TYPES[self.samples]).itemsize

    def count(self, path: Path) -> int:
        size_bytes = path.stat().st_size
        frames, rest = divmod(size_bytes - self.header, self.frame_bytes)
        if frames > 0 and not rest:
            return frames
        width, height = self.size
        text = (
            f"{path}: has {size_bytes} bytes, which are not frames of {self.frame_bytes} bytes "
            f"({width}x{height} {self.samples}) after a header of {self.header}"
        )
        whole = size_bytes % self.frame_bytes
        raise SourceError(f"{text}: set raw.header: {whole}" if whole <= MAX_HEADER < size_bytes else text)

    def images(self, path: Path) -> Iterator[StoredImage]:
        width, height = self.size
        with path.open("rb") as file:
            file.seek(self.header)
            while data := file.read(self.frame_bytes):
                if len(data) < self.frame_bytes:
                    yield StoredImage("truncated frame")
                    return
                pixels = np.frombuffer(data, _TYPES[self.samples], offset=self.frame_header).reshape(height, width)
                if self.samples == "yuyv":
                    pixels = (pixels & 0xFF).astype(np.uint8)
                yield StoredImage(ImageValues(pixels, "little"))
