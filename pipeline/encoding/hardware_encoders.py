"""Which hardware encoders of H.264 work on this machine, tried once for each frame size in a process.

An encoder counts as working if it encodes a short clip of the size: an access unit for each frame at once, and images
close to the originals. x264 is used everywhere else. VAAPI is left out: PyAV does not give its encoders surfaces.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from fusepipe.core.errors import SinkSetupError
from fusepipe.core.frames import Size
from fusepipe.core.video_formats import EncoderName

log = logging.getLogger(__name__)

SOFTWARE = "libx264"
_CLIP_FRAMES = 3
_MAX_ERROR = 8.0  # mean difference of luma to the original, in levels: an encoder that works is below 2
_QUALITY = 23


@dataclass(frozen=True, slots=True)
class HardwareEncoder:
    """One kind: its name in rigs, FFmpeg's encoder, the format its frames are converted to, the driver's library."""

    name: EncoderName
    codec: str
    pixel_format: str
    library: str = ""

    def options(self, quality: int) -> dict[str, str]:
        """FFmpeg's options: constant quality on x264's scale, each frame output before the next one."""
        if self.name == "nvenc":
            low_delay = {"preset": "p4", "tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1"}
            return {**low_delay, "profile": "high", "rc": "vbr", "cq": str(quality), "b": "0"}
        return {"preset": "veryfast", "async_depth": "1", "forced_idr": "1", "global_quality": str(quality)}


HARDWARE = (
    HardwareEncoder("nvenc", "h264_nvenc", "yuv420p", "libnvidia-encode.so.1"),
    HardwareEncoder("qsv", "h264_qsv", "nv12"),
)
"""In the order in which ``auto`` tries them."""

_PROBED: dict[tuple[HardwareEncoder, Size], str] = {}
_LOCK = threading.Lock()


def encoder_problem(kind: HardwareEncoder, size: Size) -> str:
    """Why a hardware encoder does not work for videos of (width, height), both even; empty if it does.

    Tried at the first call of a size, then remembered.
    """
    with _LOCK:
        if (kind, size) not in _PROBED:
            _PROBED[kind, size] = _failure(kind, size)
        return _PROBED[kind, size]


@lru_cache(maxsize=64)  # a recording asks for each of its segments: one line in the log is enough
def choose_encoder(
    asked: EncoderName, size: Size, kinds: tuple[HardwareEncoder, ...] = HARDWARE
) -> HardwareEncoder | None:
    """The hardware encoder for ``encoder: asked`` and videos of a size, ``None`` for x264.

    ``auto`` takes the first of ``kinds`` that works; one line in the log says which, and why not the others. Raises
    :class:`SinkSetupError` if one was named and does not work here.
    """
    if asked == "x264":
        return None
    problems = []
    for kind in kinds:
        if asked not in ("auto", kind.name):
            continue
        problem = encoder_problem(kind, size)
        if not problem:
            log.info("video is encoded by %s", kind.codec)
            return kind
        problems.append(f"{kind.name}: {problem}")
    why = "; ".join(problems)
    if asked != "auto":
        raise SinkSetupError(f"encoder: {asked} is not available here ({why}); use encoder: auto or x264")
    log.info("video is encoded by x264 (%s)", why)
    return None


def _failure(kind: HardwareEncoder, size: Size) -> str:
    """What went wrong with a short clip."""
    if kind.codec not in av.codecs_available:
        return f"this FFmpeg has no {kind.codec}"
    try:
        if kind.library:
            ctypes.CDLL(kind.library)
    except OSError:
        return f"its driver is not installed: no {kind.library}"
    try:
        return _difference(kind, size)
    except (av.FFmpegError, ValueError) as error:
        # the text of the driver's own codes is only "Unknown error occurred"
        return f"{kind.codec} does not open or encode: {getattr(error, 'strerror', None) or error}"


def _difference(kind: HardwareEncoder, size: Size) -> str:
    width, height = size
    encoder, decoder = CodecContext.create(kind.codec, "w"), CodecContext.create("h264", "r")
    assert isinstance(encoder, VideoCodecContext)
    assert isinstance(decoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, kind.pixel_format
    encoder.time_base, encoder.framerate, encoder.max_b_frames = Fraction(1, 25), Fraction(25), 0
    encoder.options = kind.options(_QUALITY)
    shown: list[VideoFrame] = []
    ramp = np.linspace(40, 200, width, dtype=np.uint8)
    luma = [np.broadcast_to(ramp + 10 * index, (height, width)) for index in range(_CLIP_FRAMES)]
    for index, image in enumerate(luma):
        frame = VideoFrame.from_ndarray(_with_neutral_chroma(image), format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        frame.pict_type = PictureType.I if index == 0 else PictureType.NONE
        packets = encoder.encode(frame)
        if len(packets) != 1:
            return f"{kind.codec} delays frames: {len(packets)} packets for one frame"
        shown += decoder.decode(packets[0])
    shown += decoder.decode(None)
    given = [np.asarray(frame.to_ndarray(format="gray"), np.int16) for frame in shown]
    if len(given) != len(luma) or any(np.abs(a - b).mean() > _MAX_ERROR for a, b in zip(given, luma, strict=True)):
        return f"{kind.codec} encodes a test clip to other images"
    return ""


def _with_neutral_chroma(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    chroma = np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)
    return np.ascontiguousarray(np.concatenate([luma, chroma]))
