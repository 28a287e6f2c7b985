"""Decoded FFmpeg frames to planes; pixels are converted only where the format requires it."""

from __future__ import annotations

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from fusepipe.core import levels
from fusepipe.core.frames import Band, Matrix, Pixels, Plane, ValueRange

_LIMITED, _FULL = 1, 2  # AVColorRange
_MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}  # AVColorSpace
_UNKNOWN = 2
HIGH_DEFINITION = 720  # min height from which an unspecified matrix is BT.709


def upright_planes(
    av_frame: VideoFrame, band: Band, count_range: tuple[int, int] | None
) -> tuple[tuple[Plane, ...], Matrix]:
    """The planes of a frame, rotated as its display matrix says, and the matrix of its chroma."""
    planes = infrared_planes(av_frame) if band is Band.INFRARED else visible_planes(av_frame, count_range)
    quarter_turns = round(av_frame.rotation / 90) % 4
    if quarter_turns:
        planes = tuple(Plane(_turned(p.pixels, quarter_turns), p.bit_depth, p.value_range) for p in planes)
    return planes, _matrix(av_frame)


def _turned(pixels: Pixels, quarter_turns: int) -> Pixels:
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))  # type: ignore[return-value]


def infrared_planes(av_frame: VideoFrame) -> tuple[Plane, ...]:
    """(Y,): the luma of an infrared frame; raw counts keep the bit depth of the format."""
    if not _is_planar_luma(av_frame.format):
        high = av_frame.format.components[0].bits > 8
        av_frame = av_frame.reformat(format="gray16le" if high else "gray", dst_color_range=_FULL)
    return (_view(av_frame, 0, _range(av_frame)),)


def visible_planes(av_frame: VideoFrame, count_range: tuple[int, int] | None = None) -> tuple[Plane, ...]:
    """(Y,) or (Y, Cb, Cr), uint8, in the subsampling and value range of the file.

    Planar 8-bit YUV is not converted; RGB becomes full-range 4:4:4; higher bit depths become 8 bit (greyscale by
    ``count_range`` if given).
    """
    form = av_frame.format
    if count_range is not None and is_grey(form) and form.components[0].bits > 8:
        return (Plane(levels.counts_to_luma(*count_range)[_view(av_frame, 0, "full").pixels]),)
    if form.is_rgb or form.has_palette:
        av_frame = av_frame.reformat(format="yuvj444p", dst_color_range=_FULL)
    elif form.components[0].bits > 8 or not _is_planar_luma(form):
        target = "gray" if is_grey(form) else "yuv420p"
        av_frame = av_frame.reformat(format=target, dst_color_range=av_frame.color_range or _LIMITED)
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
    if av_frame.colorspace == _UNKNOWN:
        return "bt709" if av_frame.height >= HIGH_DEFINITION else "bt601"
    return _MATRICES.get(av_frame.colorspace, "bt601")
