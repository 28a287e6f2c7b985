"""Images that programs give as arrays: NumPy or PyTorch, grey or colour, 8 or 16 bit, to the luma that fusers take."""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.colour import planes_to_bgr
from fusepipe.core.counts import MAX_COUNT, CountSettings, counts_warning, measure_levels
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Frame, Luma8, Pixels, Plane
from fusepipe.core.image_files import infrared_image_planes, is_coloured, visible_image_planes
from fusepipe.core.levels import full_range_luma
from fusepipe.core.units import S

ChannelOrder = Literal["bgr", "rgb"]
CountRange = tuple[int, int]

_NANOSECONDS = Fraction(1, S)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPair:
    """``infrared`` and ``visible`` as HxW uint8 full-range luma of one size, and what a result has to look like."""

    infrared: Luma8
    visible: Luma8
    chroma: tuple[Plane, ...] = ()
    channels: ChannelOrder = "bgr"
    like: Any = None

    def result(self, fused: Luma8) -> Any:
        """HxW fused luma as the visible image was given: with its colour, in its layout, on its device; uint8."""
        if not self.chroma and self.like is None:
            return fused
        pixels: Pixels = fused
        if self.chroma:
            pixels = planes_to_bgr((Plane(fused), *self.chroma), "bt601")
            pixels = np.asarray(pixels if self.channels == "bgr" else pixels[..., ::-1].copy(), np.uint8)
        if self.like is None:
            return pixels
        if self.like.ndim == 3 and _channels_first(self.like.shape):
            pixels = np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), -1, 0), np.uint8)
        elif self.like.ndim == 3 and pixels.ndim == 2:
            pixels = pixels[..., None]
        return sys.modules["torch"].from_numpy(pixels).to(self.like.device)


def pair_of_arrays(
    infrared: Any,
    visible: Any,
    *,
    channels: ChannelOrder = "bgr",
    infrared_range: CountRange | None = None,
    visible_range: CountRange | None = None,
) -> ArrayPair:
    """Two images as :meth:`fusepipe.core.fuser.Fuser.fuse` takes them; see there. Raises :class:`UsageError`."""
    if channels not in ("bgr", "rgb"):
        raise UsageError(f"{channels = } is neither 'bgr' nor 'rgb'")
    luma = _luma(_pixels("infrared", infrared, channels), "infrared", infrared_range)
    pixels = _pixels("visible", visible, channels)
    if luma.shape != pixels.shape[:2]:
        sizes = " and ".join(f"{name} {w}x{h}" for name, (h, w) in _sizes(luma, pixels))
        raise UsageError(
            f"{sizes} (width x height) differ in size: register the infrared image first, with a calibration "
            "(registration in rigs.yaml), or with cv2.resize if both show the same view"
        )
    _check_range("visible", visible_range)
    if pixels.dtype == np.uint16:
        _warn_of_counts("visible", pixels, visible_range, stacklevel=4)
    y, *chroma = visible_image_planes(pixels, visible_range)
    return ArrayPair(
        luma, full_range_luma(y), tuple(chroma), channels, None if isinstance(visible, np.ndarray) else visible
    )


def frame_of_array(
    image: Any, band: Band | Literal["infrared", "visible"], *, index: int, capture_ns: int, arrival_ns: int = 0
) -> Frame:
    """A frame of an own source: ``image`` is HxW or HxWx3 (B, G, R), uint8 or uint16.

    Infrared counts are kept for the ``range`` of the rig; visible ones are mapped to 8 bit from 0..65535.
    ``capture_ns``: time of exposure; ``arrival_ns``: ``time.monotonic_ns()`` by default. Raises :class:`UsageError`.
    """
    band = Band(band)
    pixels = _pixels(str(band), image, "bgr")
    planes = infrared_image_planes(pixels) if band is Band.INFRARED else visible_image_planes(pixels)
    return Frame(
        band=band,
        planes=planes,
        index=index,
        capture_ns=capture_ns,
        pts=capture_ns,
        time_base=_NANOSECONDS,
        camera=str(band),
        arrival_ns=arrival_ns or time.monotonic_ns(),
    )


def _pixels(name: str, image: Any, channels: ChannelOrder) -> Pixels:
    """HxW or HxWx3 (B, G, R), uint8 or uint16."""
    array = _array(name, image)
    if array.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{name} is {array.dtype}: give uint8, or uint16 counts{_conversion(array)}")
    if array.ndim == 3 and not isinstance(image, np.ndarray) and _channels_first(array.shape):
        array = np.moveaxis(array, 0, -1)
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3):
            hint = "; for channels first: image.transpose(1, 2, 0)"
        elif array.ndim == 4:
            hint = "; one image at a time: image[0]"
        raise UsageError(f"{name} has shape {array.shape}: give HxW (grey) or HxWx3 (colour){hint}")
    if array.ndim == 2:
        return array
    if array.shape[2] == 1:
        return np.asarray(array[..., 0])
    colours = array[..., :3]  # a fourth channel is opacity
    return np.ascontiguousarray(colours if channels == "bgr" else colours[..., ::-1])


def _array(name: str, image: Any) -> NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    if image is None:
        raise UsageError(f"{name} is None: cv2.imread gives None for a file that does not exist or is no image")
    if isinstance(image, str | Path):
        read = "cv2.imread(path, cv2.IMREAD_UNCHANGED)"
        raise UsageError(f"{name} is a path, {str(image)!r}: read the image first: {read}")
    if type(image).__module__.partition(".")[0] == "torch" and hasattr(image, "detach"):
        return np.asarray(image.detach().cpu().numpy())
    kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    raise UsageError(f"{name} is a {kind}: give a NumPy array or a PyTorch tensor, such as np.asarray(image)")


def _conversion(array: NDArray[Any]) -> str:
    """How an array of another type becomes one that is accepted."""
    if array.dtype == np.bool_:
        return ": image.astype(np.uint8) * 255"
    if np.issubdtype(array.dtype, np.floating):
        return "; of 0 to 1: (image * 255).round().astype(np.uint8)"
    return ": image.astype(np.uint16)" if np.issubdtype(array.dtype, np.integer) else ""


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)


def _luma(pixels: Pixels, name: str, count_range: CountRange | None) -> Luma8:
    _check_range(name, count_range)
    if is_coloured(pixels):
        text = f"{name} is in colour: in a thermal palette hot can be darker than cold; use white-hot (grey) images"
        warnings.warn(text, stacklevel=4)
    (plane,) = infrared_image_planes(pixels)
    if plane.pixels.dtype == np.uint16:
        _warn_of_counts(name, plane.pixels, count_range, stacklevel=5)
    return full_range_luma(plane, count_range)


def _check_range(name: str, span: CountRange | None) -> None:
    if span is None:
        return
    try:
        low, high = span
        valid = 0 <= low < high <= MAX_COUNT
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise UsageError(f"{name}_range = {span!r}: give (black, white), counts from 0 to {MAX_COUNT}")


def _warn_of_counts(name: str, pixels: Pixels, span: CountRange | None, *, stacklevel: int) -> None:
    """Warns of counts that come out as grey fog or nearly black; ``stacklevel`` is that of the caller's program."""
    settings = CountSettings(f"{name}_range=({{low}}, {{high}})", f"{name}.byteswap()")
    if text := counts_warning(name, measure_levels(pixels), span or (0, MAX_COUNT), settings):
        warnings.warn(text, stacklevel=stacklevel)


def _sizes(luma: Luma8, pixels: Pixels) -> tuple[tuple[str, tuple[int, int]], tuple[str, tuple[int, int]]]:
    return ("infrared", (luma.shape[0], luma.shape[1])), ("visible", (pixels.shape[0], pixels.shape[1]))
