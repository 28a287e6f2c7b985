"""Frames of the pipeline as FFmpeg frames, for encoders: planes are copied, colours are not converted."""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame

from fusepipe.core.frames import Frame, FusedFrame, Pixels, Plane, ValueRange
from fusepipe.core.levels import luma_to_full, luma_to_limited

COLOR_RANGE = {"limited": 1, "full": 2}  # AVColorRange
COLOR_SPACE = {"bt601": 6, "bt709": 1, "bt2020": 9}  # AVColorSpace: SMPTE 170M, BT.709, BT.2020 NCL


def to_av_frame(
    frame: FusedFrame | Frame,
    width: int,
    height: int,
    pixel_format: str,
    value_range: ValueRange,
    recycled: VideoFrame | None = None,
) -> VideoFrame:
    """The frame as an FFmpeg frame of at least its size; greyscale frames get neutral chroma in a colour format.

    ``pixel_format`` is yuv420p, gray, or gray16le for 16-bit luma. Padding repeats the last row and column.
    ``recycled`` is an earlier frame that nobody reads any more, whose memory is used if it fits; FFmpeg's software
    encoders copy a frame before they return.
    """
    if recycled is None or (recycled.width, recycled.height, recycled.format.name) != (width, height, pixel_format):
        av_frame = VideoFrame(width, height, pixel_format)
    else:
        av_frame = recycled
        av_frame.pict_type = PictureType.NONE
    _fill(av_frame, 0, _luma(frame.planes[0], value_range))
    if len(av_frame.planes) == 3:
        half = (av_frame.planes[1].width, av_frame.planes[1].height)
        for index in (1, 2):
            if len(frame.planes) == 3:
                _fill(av_frame, index, _subsampled(frame.planes[index], half))
            else:
                _fill(av_frame, index, np.full((1, 1), 128, np.uint8))
    return av_frame


def _luma(plane: Plane, value_range: ValueRange) -> Pixels:
    """The luma in the value range of the video, which may differ for a single infrared frame."""
    if plane.value_range == value_range:
        return plane.pixels
    return np.asarray(cv2.LUT(plane.pixels, luma_to_limited() if value_range == "limited" else luma_to_full()))


def _subsampled(plane: Plane, half: tuple[int, int]) -> Pixels:
    """Chroma at 4:2:0: unchanged if it is already, else averaged over the pixels of each sample."""
    if (plane.width, plane.height) == half:
        return plane.pixels
    return np.asarray(cv2.resize(plane.pixels, half, interpolation=cv2.INTER_AREA))


def _fill(av_frame: VideoFrame, index: int, pixels: Pixels) -> None:
    """Copies pixels into a plane; padding repeats the last row and column."""
    plane = av_frame.planes[index]
    samples = np.frombuffer(memoryview(plane), pixels.dtype)
    target = samples.reshape(plane.height, plane.line_size // pixels.itemsize)
    height, width = pixels.shape
    target[:height, :width] = pixels
    target[:height, width : plane.width] = target[:height, width - 1 : width]
    target[height:, : plane.width] = target[height - 1 : height, : plane.width]
