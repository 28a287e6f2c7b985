"""How the images of a source become planes: byte order, values that are not counts, the depth of each band."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from fusepipe.core import image_files
from fusepipe.core.camera_telemetry import CameraTelemetry
from fusepipe.core.counts import ByteOrder, measure_levels
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, Pixels, Plane
from fusepipe.core.image_values import UnmappedValues, are_counts, degree_range, map_values, mapped_radiometry
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.dji_files import DjiError, dji_counts
from fusepipe.pipeline.sources.files.flir_files import FlirError, flir_data, read_fff
from fusepipe.pipeline.sources.image_colour import image_colour
from fusepipe.pipeline.sources.reframing import AS_IT_IS, CropError, Reframing


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How image files are read. ``value_range`` maps visible 16-bit images to 8 bit, and values to counts.

    ``byte_order`` is that of 16-bit samples, for files that do not have the order which their format states.
    ``radiometry`` is what the values of infrared images measure, in place of what their file says.
    """

    fps: float | None = None
    value_range: tuple[float, float] | None = None
    byte_order: ByteOrder | None = None
    reframing: Reframing = AS_IT_IS
    camera: str = ""
    stream_id: str = ""
    radiometry: Radiometry | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageValues:
    """A decoded image: HxW or HxWx3 (B, G, R) of any type.

    ``stated_order`` is the byte order that the format of its file states, ``radiometry`` what the file says of its
    counts.
    """

    pixels: Pixels
    stated_order: ByteOrder
    radiometry: Radiometry | None = None


class ImageReader:
    """Turns decoded images of one source into frames, all in the way that its first one needs."""

    def __init__(self, band: Band, options: ImageOptions) -> None:
        self._band, self._options = band, options
        self._mapped = False

    def decode(self, data: bytes) -> ImageValues:
        """The image in the bytes of a file; of a radiometric JPEG its counts, where the camera is the infrared one.

        Raises :class:`UnreadableImage`.
        """
        order = image_files.stated_byte_order(data)
        if self._band is Band.INFRARED:
            try:
                if fff := flir_data(data):
                    flir = read_fff(fff)
                    return ImageValues(flir.counts, self._options.byte_order or order, flir.radiometry)
                if (counts := dji_counts(data)) is not None:
                    return ImageValues(counts, self._options.byte_order or order)
            except (FlirError, DjiError) as error:
                raise image_files.UnreadableImage(str(error)) from error
        return ImageValues(image_files.decode_values(data), order)

    def open(self, image: ImageValues, path: Path, *, fps: float, frames: int) -> SourceInfo:
        """The properties of a source whose first image is this one, of the file ``path``.

        Raises :class:`UnreadableImage` for values that need a ``value_range``, and :class:`SourceError` for a crop that
        does not fit.
        """
        self._mapped = self._is_mapped(image.pixels)
        try:
            whole = self._counts(image)
            pixels = self._options.reframing.pixels(whole)
        except CropError as error:
            raise SourceError(f"{path}: {error}") from error
        deep = pixels.dtype == np.uint16
        problem = self._options.reframing.telemetry_problem(whole)
        return SourceInfo(
            width=pixels.shape[1],
            height=pixels.shape[0],
            fps=fps,
            frames=frames,
            grey=pixels.ndim == 2,
            bit_depth=8 * pixels.dtype.itemsize,
            codec=path.suffix[1:].lower(),
            notes=(problem,) if problem else (),
            levels=measure_levels(pixels) if deep and not self._mapped else None,
            timed=False,
            colour=image_colour(pixels),
            byte_order=self._options.byte_order or image.stated_order if deep else None,
            mapped=self._mapped,
            radiometry=self.radiometry(image),
        )

    def radiometry(self, image: ImageValues) -> Radiometry | None:
        """What the counts of the planes of an infrared image measure; ``None`` where that is not known."""
        if self._band is Band.VISIBLE:
            return None
        given = self._options.radiometry or image.radiometry
        if given is None or not self._mapped:
            return given
        return mapped_radiometry(given, self._options.value_range)

    def telemetry(self, image: ImageValues) -> CameraTelemetry | None:
        """What the telemetry rows of an infrared image say, where they are set and can be read."""
        reframing = self._options.reframing
        return None if reframing.telemetry is None else reframing.telemetry_of(self._counts(image))

    def frame(
        self, image: ImageValues, *, index: int, capture_ns: int, pts: int, time_base: Fraction, name: str
    ) -> Frame:
        """The frame of an image, as of now; index, times and name as in :class:`Frame`.

        Raises :class:`UnreadableImage` as :meth:`planes` does.
        """
        return Frame(
            band=self._band,
            planes=self.planes(image),
            index=index,
            capture_ns=capture_ns,
            pts=pts,
            time_base=time_base,
            camera=self._options.camera,
            stream_id=self._options.stream_id,
            name=name,
            arrival_ns=time.monotonic_ns(),
            radiometry=self.radiometry(image),
            telemetry=self.telemetry(image),
        )

    def planes(self, image: ImageValues) -> tuple[Plane, ...]:
        """The planes of an image: counts of an infrared one, 8-bit luma and chroma of a visible one.

        Raises :class:`UnreadableImage` for values that cannot become counts as those of the first image did, and for an
        image that is too small for the crop.
        """
        if self._is_mapped(image.pixels) != self._mapped:
            first = "other values, such as degrees" if self._mapped else "counts"
            raise image_files.UnreadableImage(
                f"its values are {image.pixels.dtype}; those of the first image are {first}"
            )
        span = self._options.value_range
        try:
            pixels = self._options.reframing.pixels(self._counts(image))
        except CropError as error:
            raise image_files.UnreadableImage(str(error)) from error
        if self._band is Band.INFRARED:
            return image_files.infrared_image_planes(pixels)
        if span is None or self._mapped:
            return image_files.visible_image_planes(pixels)
        return image_files.visible_image_planes(pixels, (round(span[0]), round(span[1])))

    def _is_mapped(self, values: Pixels) -> bool:
        return (self._options.value_range is not None or self._in_degrees) and not are_counts(values)

    @property
    def _in_degrees(self) -> bool:
        """Whether the rig says that the values of infrared images are temperatures."""
        given = self._options.radiometry
        return self._band is Band.INFRARED and given is not None and given.thermal

    def _counts(self, image: ImageValues) -> Pixels:
        values = image.pixels
        if values.dtype.itemsize == 2 and self._options.byte_order not in (None, image.stated_order):
            values = values.byteswap()
        if are_counts(values):
            return values
        span = self._options.value_range
        if span is None and self._in_degrees:
            assert self._options.radiometry is not None
            span = degree_range(self._options.radiometry)
        try:
            return map_values(values, span)
        except UnmappedValues as error:
            raise image_files.UnreadableImage(str(error)) from error
