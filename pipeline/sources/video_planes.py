"""Decoded FFmpeg frames to planes; pixels are converted only where the format requires it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from fusepipe.core import levels
from fusepipe.core.camera_telemetry import CameraTelemetry
from fusepipe.core.counts import CountLevels, measure_levels, swapped_bytes
from fusepipe.core.frames import Band, Matrix, Pixels, Plane, ValueRange
from fusepipe.pipeline.sources.hdr import TRANSFERS, Transfer, hdr_planes
from fusepipe.pipeline.sources.image_colour import ImageColour, image_colour
from fusepipe.pipeline.sources.reframing import AS_IT_IS, UPRIGHT, Orientation, Reframing

_LIMITED, _FULL = 1, 2  # AVColorRange
_MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}  # AVColorSpace
_UNKNOWN = 2
HIGH_DEFINITION = 720  # min height from which an unspecified matrix is BT.709


def upright_planes(
    av_frame: VideoFrame,
    band: Band,
    count_range: tuple[int, int] | None,
    *,
    swap_bytes: bool = False,
    reframing: Reframing = AS_IT_IS,
) -> tuple[tuple[Plane, ...], Matrix]:
    """The planes of a frame, rotated and mirrored as its display matrix says and reframed, and the chroma's matrix.

    Raises :class:`CropError`.
    """
    if swap_bytes and is_16_bit_grey(av_frame.format):
        counts = Plane(swapped_bytes(_counts(av_frame)), 16)
        mapped = Plane(levels.full_range_luma(counts, count_range))
        planes: tuple[Plane, ...] = (counts,) if band is Band.INFRARED else (mapped,)
    else:
        planes = infrared_planes(av_frame) if band is Band.INFRARED else visible_planes(av_frame, count_range)
    orientation = display_orientation(av_frame)
    if orientation != UPRIGHT:
        planes = tuple(Plane(orientation.apply(p.pixels), p.bit_depth, p.value_range) for p in planes)
    return reframing.planes(planes), _matrix(av_frame)


class NotPackedError(ValueError):
    """Video that has no packed samples (YUYV); the argument says what it has."""


def packed_counts(av_frame: VideoFrame) -> VideoFrame:
    """A frame of packed 4:2:2 (YUYV) whose two bytes per pixel are a count, as a frame of 16-bit grey.

    Raises :class:`NotPackedError`.
    """
    if av_frame.format.name != "yuyv422":
        raise NotPackedError(
            f"yuyv: counts is for packed video (yuyv422), and this is {av_frame.format.name}; remove it"
        )
    plane = av_frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint16).reshape(av_frame.height, plane.line_size // 2)
    counts = VideoFrame.from_ndarray(np.ascontiguousarray(rows[:, : av_frame.width]), format="gray16le")
    counts.pts, counts.time_base = av_frame.pts, av_frame.time_base
    return counts


def display_orientation(av_frame: VideoFrame) -> Orientation:
    """The orientation in a frame's display matrix, to the nearest quarter turn.

    The matrix (FFmpeg's libavutil/display.h) maps a stored pixel (x, y) to (a x + c y, b x + d y).
    """
    # Not av_frame.side_data: the frame keeps that, and it the frame, so that the pixels of frames which have left the
    # pipeline wait for Python's garbage collector. PyAV's stub has no constructor.
    side_data = SideDataContainer(av_frame)  # type: ignore[call-arg]
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(b) > abs(a):
        return Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
    return Orientation(mirrored=a < 0, flipped=d < 0)


def counts_of(av_frame: VideoFrame, *, swap_bytes: bool, reframing: Reframing = AS_IT_IS) -> CountLevels | None:
    """The levels of a reframed frame with 16 bits per sample: of its grey, its R, G, B or its luma. Else ``None``."""
    form = av_frame.format
    if form.has_palette or form.components[0].bits != 16:
        return None
    if is_grey(form):
        counts = _reframed(_counts(av_frame), av_frame, reframing)
        return measure_levels(swapped_bytes(counts) if swap_bytes else counts)
    values = _rgb48(av_frame) if form.is_rgb else _view(_planar_yuv16(av_frame), 0, "full").pixels
    return measure_levels(_reframed(values, av_frame, reframing))


def telemetry_of(av_frame: VideoFrame, reframing: Reframing, *, swap_bytes: bool) -> CameraTelemetry | None:
    """What the telemetry rows of an infrared frame say, where ``reframing`` has some and they can be read."""
    return None if reframing.telemetry is None else reframing.telemetry_of(_whole(av_frame, swap_bytes=swap_bytes))


def telemetry_problem(av_frame: VideoFrame, reframing: Reframing, *, swap_bytes: bool) -> str:
    """Why the telemetry rows of an infrared frame cannot be read; empty where they can, or there are none."""
    if reframing.telemetry is None:
        return ""
    return reframing.telemetry_problem(_whole(av_frame, swap_bytes=swap_bytes))


def _whole(av_frame: VideoFrame, *, swap_bytes: bool) -> Pixels:
    """The luma of a frame before reframing, HxW."""
    if not is_16_bit_grey(av_frame.format):
        return infrared_planes(av_frame)[0].pixels
    counts = _counts(av_frame)
    return swapped_bytes(counts) if swap_bytes else counts


def colour_of(av_frame: VideoFrame, reframing: Reframing = AS_IT_IS) -> ImageColour:
    """Whether a reframed frame is grey, in natural or in false colours."""
    if is_grey(av_frame.format):
        return "grey"
    colours = np.asarray(_converted(av_frame, format="bgr24").to_ndarray(), np.uint8)
    return image_colour(_reframed(colours, av_frame, reframing))


def _reframed(pixels: Pixels, av_frame: VideoFrame, reframing: Reframing) -> Pixels:
    """Pixels of a frame as they are displayed, reframed. Raises :class:`CropError`."""
    return pixels if reframing == AS_IT_IS else reframing.pixels(display_orientation(av_frame).apply(pixels))


def _converted(av_frame: VideoFrame, **target: Any) -> VideoFrame:
    """A frame in another pixel format; ``target`` is what ``VideoFrame.reformat`` takes.

    In this thread: by default each converted stream starts a pool of swscale threads that lives until Python's garbage
    collector finds it, so a camera that reconnects collects pools.
    """
    return av_frame.reformat(**target, threads=1)


def is_16_bit_grey(form: VideoFormat) -> bool:
    """Whether a format has 16-bit luma only."""
    return is_grey(form) and form.components[0].bits == 16


def _counts(av_frame: VideoFrame) -> NDArray[np.uint16]:
    if not _is_planar_luma(av_frame.format):
        av_frame = _converted(av_frame, format="gray16le")
    return np.array(_view(av_frame, 0, "full").pixels, np.uint16)


def _rgb48(av_frame: VideoFrame) -> NDArray[np.uint16]:
    return np.asarray(av_frame.to_ndarray(format="rgb48le"), np.uint16)


def _planar_yuv16(av_frame: VideoFrame) -> VideoFrame:
    return av_frame if _is_planar_luma(av_frame.format) else av_frame.reformat(format="yuv444p16le")


def _mapped_colour(av_frame: VideoFrame, count_range: tuple[int, int]) -> tuple[Plane, ...]:
    """(Y, Cb, Cr), uint8, full range, of 16-bit colour: R, G and B or luma mapped by ``count_range``."""
    table = levels.counts_to_luma(*count_range)
    if av_frame.format.is_rgb:
        mapped = VideoFrame.from_ndarray(table[_rgb48(av_frame)], format="rgb24")
        converted = mapped.reformat(format="yuvj444p", dst_color_range=_FULL)
        return tuple(_view(converted, i, "full") for i in range(3))
    luma, *chroma = (_view(_planar_yuv16(av_frame), i, "full").pixels for i in range(3))
    gain = 255.0 / (count_range[1] - count_range[0])
    scaled = (np.clip(np.rint(128 + (c.astype(np.float32) - 32768) * gain), 0, 255) for c in chroma)
    return (Plane(table[luma]), *(Plane(c.astype(np.uint8)) for c in scaled))


def infrared_planes(av_frame: VideoFrame) -> tuple[Plane, ...]:
    """(Y,): the luma of an infrared frame; raw counts keep the bit depth of the format."""
    if not _is_planar_luma(av_frame.format):
        high = av_frame.format.components[0].bits > 8
        av_frame = _converted(av_frame, format="gray16le" if high else "gray", dst_color_range=_FULL)
    return (_view(av_frame, 0, _range(av_frame)),)


def visible_planes(av_frame: VideoFrame, count_range: tuple[int, int] | None = None) -> tuple[Plane, ...]:
    """(Y,) or (Y, Cb, Cr), uint8, in the subsampling and value range of the file.

    HLG and PQ are mapped to BT.709. Other planar 8-bit YUV is not converted; RGB becomes full-range 4:4:4; higher bit
    depths become 8 bit (greyscale and 16-bit colour by ``count_range`` if given).
    """
    form = av_frame.format
    if count_range is not None and is_grey(form) and form.components[0].bits > 8:
        return (Plane(levels.counts_to_luma(*count_range)[_view(av_frame, 0, "full").pixels]),)
    if count_range is not None and form.components[0].bits == 16:
        return _mapped_colour(av_frame, count_range)
    if (transfer := hdr_transfer(av_frame)) is not None:
        planar = av_frame if _is_planar_luma(form) else _converted(av_frame, format="yuv420p10le")
        return hdr_planes(tuple(_view(planar, i, _range(planar)) for i in range(3)), transfer)
    if form.is_rgb or form.has_palette:
        av_frame = _converted(av_frame, format="yuvj444p", dst_color_range=_FULL)
    elif form.components[0].bits > 8 or not _is_planar_luma(form):
        target = "gray" if is_grey(form) else "yuv420p"
        av_frame = _converted(av_frame, format=target, dst_color_range=av_frame.color_range or _LIMITED)
    value_range = _range(av_frame)
    count = 1 if is_grey(av_frame.format) else 3
    return tuple(_view(av_frame, i, value_range) for i in range(count))


def _view(av_frame: VideoFrame, index: int, value_range: ValueRange) -> Plane:
    """A plane without a copy: the array references the decoder's buffer."""
    plane: VideoPlane = av_frame.planes[index]
    bits = av_frame.format.components[index].bits
    # VideoPlane has the buffer protocol
    data = memoryview(plane)
    rows: Pixels = np.frombuffer(data, np.uint8) if bits <= 8 else np.frombuffer(data, np.uint16)
    rows = rows.reshape(plane.height, plane.line_size // rows.itemsize)
    return Plane(rows[:, : plane.width], max(8, bits), value_range)


def hdr_transfer(av_frame: VideoFrame) -> Transfer | None:
    """The transfer function of a colour frame of high dynamic range; ``None`` for others, also with 16 bits."""
    form = av_frame.format
    if form.is_rgb or form.has_palette or is_grey(form) or form.components[0].bits > 12:
        return None
    return TRANSFERS.get(int(av_frame.color_trc))


def is_grey(form: VideoFormat) -> bool:
    """Whether a pixel format has luma only."""
    return len(form.components) == 1 and not form.has_palette


def _is_planar_luma(form: VideoFormat) -> bool:
    """Whether plane 0 contains only luma (and further planes one chroma component each), little-endian."""
    if form.is_rgb or form.has_palette or form.is_bit_stream or (form.is_big_endian and form.components[0].bits > 8):
        return False
    if is_grey(form):
        return form.name.startswith("gray")
    return form.is_planar and form.name.startswith(("yuv4", "yuvj4")) and len(form.components) == 3


def _range(av_frame: VideoFrame) -> ValueRange:
    """The value range of the file; by default limited for YUV, full for grey and yuvj."""
    if av_frame.color_range in (_LIMITED, _FULL):
        return "full" if av_frame.color_range == _FULL else "limited"
    return "full" if av_frame.format.name.startswith(("gray", "yuvj")) else "limited"


def _matrix(av_frame: VideoFrame) -> Matrix:
    """The matrix of the file; by default BT.709 for high definition, else BT.601, which RGB is converted with."""
    if av_frame.format.is_rgb or av_frame.format.has_palette:
        return "bt601"
    if hdr_transfer(av_frame) is not None:
        return "bt709"
    if av_frame.colorspace == _UNKNOWN:
        return "bt709" if av_frame.height >= HIGH_DEFINITION else "bt601"
    return _MATRICES.get(av_frame.colorspace, "bt601")
