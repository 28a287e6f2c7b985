"""How the images of a source become planes: byte order, values that are not counts, the depth of each band."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusepipe.core import image_files
from fusepipe.core.counts import ByteOrder, measure_levels
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Pixels, Plane
from fusepipe.core.image_values import UnmappedValues, are_counts, map_values
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.image_colour import image_colour
from fusepipe.pipeline.sources.reframing import AS_IT_IS, CropError, Reframing


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How image files are read. ``value_range`` maps visible 16-bit images to 8 bit, and values to counts.

    ``byte_order`` is that of 16-bit samples, for files that do not have the order which their format states.
    """

    fps: float | None = None
    value_range: tuple[float, float] | None = None
    byte_order: ByteOrder | None = None
    reframing: Reframing = AS_IT_IS
    camera: str = ""
    stream_id: str = ""

    def order_of(self, data: bytes) -> ByteOrder:
        """The order in which the samples of the file ``data`` are read."""
        return self.byte_order or image_files.stated_byte_order(data)


class ImageReader:
    """Turns decoded images of one source into planes, all in the way that its first one needs."""

    def __init__(self, band: Band, options: ImageOptions) -> None:
        self._band, self._options = band, options
        self._mapped = False

    def open(self, values: Pixels, data: bytes, path: Path, *, fps: float, frames: int) -> SourceInfo:
        """The properties of a source whose first image has these ``values``, in the file ``data``.

        Raises :class:`UnreadableImage` for values that need a ``value_range``, and :class:`SourceError` for a crop that
        does not fit.
        """
        self._mapped = self._is_mapped(values)
        try:
            pixels = self._options.reframing.pixels(self._counts(values, data))
        except CropError as error:
            raise SourceError(f"{path}: {error}") from error
        deep = pixels.dtype == np.uint16
        return SourceInfo(
            width=pixels.shape[1],
            height=pixels.shape[0],
            fps=fps,
            frames=frames,
            grey=pixels.ndim == 2,
            bit_depth=8 * pixels.dtype.itemsize,
            codec=path.suffix[1:].lower(),
            levels=measure_levels(pixels) if deep and not self._mapped else None,
            timed=False,
            colour=image_colour(pixels),
            byte_order=self._options.order_of(data) if deep else None,
            mapped=self._mapped,
        )

    def planes(self, values: Pixels, data: bytes) -> tuple[Plane, ...]:
        """The planes of an image: counts of an infrared one, 8-bit luma and chroma of a visible one.

        Raises :class:`UnreadableImage` for values that cannot become counts as those of the first image did, and for an
        image that is too small for the crop.
        """
        if self._is_mapped(values) != self._mapped:
            first = "other values, such as degrees" if self._mapped else "counts"
            raise image_files.UnreadableImage(f"its values are {values.dtype}; those of the first image are {first}")
        span = self._options.value_range
        try:
            pixels = self._options.reframing.pixels(self._counts(values, data))
        except CropError as error:
            raise image_files.UnreadableImage(str(error)) from error
        if self._band is Band.INFRARED:
            return image_files.infrared_image_planes(pixels)
        if span is None or self._mapped:
            return image_files.visible_image_planes(pixels)
        return image_files.visible_image_planes(pixels, (round(span[0]), round(span[1])))

    def _is_mapped(self, values: Pixels) -> bool:
        return self._options.value_range is not None and not are_counts(values)

    def _counts(self, values: Pixels, data: bytes) -> Pixels:
        if values.dtype.itemsize == 2 and self._options.order_of(data) != image_files.stated_byte_order(data):
            values = values.byteswap()
        try:
            return values if are_counts(values) else map_values(values, self._options.value_range)
        except UnmappedValues as error:
            raise image_files.UnreadableImage(str(error)) from error
