"""The infrared images of a set as luma: those of more than 8 bits through the gain control that a run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusepipe.core import image_files
from fusepipe.core.counts import CountSettings
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, FramePair, Luma8, PairState
from fusepipe.core.units import S
from fusepipe.pipeline.sources.base import DEFAULT_FPS
from fusepipe.pipeline.sources.files.image_reader import ImageOptions, ImageReader
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.rig.factories.tone_map import make_tone_map
from fusepipe.rig.from_options import source_config

_SETTINGS = CountSettings("--range {low} {high}", "the byte order of the files", read_order=None)


class InfraredLumas:
    """Reads infrared images as ``fusepipe fuse`` shows them: one after another, at 25 frames a second.

    ``keys`` are those of the infrared camera, such as its ``agc`` and ``range``. The first read of each image has to be
    in order, as the levels follow the scene; later ones give the same luma, with ``keep``. Images of 8 bits are
    unchanged without ``keys``. Raises :class:`UsageError` for keys that contradict each other.
    """

    def __init__(self, files: Sequence[Path], keys: Mapping[str, Any], *, keep: bool) -> None:
        self._config = source_config(str(files[0]), keys)
        self._files, self._keep = files, keep
        self._reader = ImageReader(Band.INFRARED, ImageOptions(value_range=self._config.value_range))
        self._tone_map: ToneMap | None = None  # from the first image on
        self._warnings: list[str] = []
        self._deep = False
        self._kept: dict[int, bytes] = {}  # mapped images of more than 8 bits, compressed

    @property
    def notes(self) -> list[str]:
        """How images were mapped to 8 bits, and warnings about their counts; empty of 8-bit images without ``keys``."""
        span, how = self._config.value_range, "" if self._tone_map is None else self._tone_map.description
        if not self._deep and not how:
            return []
        if span is not None:
            how = f"range {span[0]:g} to {span[1]:g}"
        return [f"infrared images are mapped to 8 bits as in a run: {how or 'full range'}", *self._warnings]

    def read(self, index: int) -> Luma8:
        """HxW uint8, full range. Raises :class:`SourceError` for an image that cannot be used."""
        if index in self._kept:
            return np.asarray(cv2.imdecode(np.frombuffer(self._kept[index], np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
        path = self._files[index]
        try:
            image = self._reader.decode(path.read_bytes())
            if self._tone_map is None:
                info = self._reader.open(image, path, fps=DEFAULT_FPS, frames=len(self._files))
                self._tone_map = make_tone_map(self._config, _SETTINGS, self._warnings.append, info)
            (plane,) = self._reader.planes(image)
        except image_files.UnreadableImage as error:
            raise SourceError(f"{path}: cannot be used: {error}") from error
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        capture_ns = int(index * S / DEFAULT_FPS)
        frame = Frame(Band.INFRARED, (plane,), index, capture_ns, capture_ns, Fraction(1, S))
        pair = self._tone_map(FramePair(index, PairState.SINGLE, Band.INFRARED, frame, None, registered=plane))
        assert pair.luma is not None
        luma = np.ascontiguousarray(pair.luma.pixels, np.uint8)
        self._deep |= plane.pixels.dtype == np.uint16
        if self._keep and (self._deep or self._tone_map.description):
            self._kept[index] = cv2.imencode(".png", luma, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        return luma
