"""Which hardware decoders work on this machine, tried once per process.

A decoder counts as working if it decodes a short clip to the images of the software decoder: H.264 decoding is exact.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from fractions import Fraction

import av
import numpy as np
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError
from fusepipe.core.video_formats import DecoderName
from fusepipe.pipeline.sources.decoders.kinds import HARDWARE, SOFTWARE, DecoderChoice, HardwareDecoder

_LOG = logging.getLogger(__name__)
_CLIP_SIZE = (256, 192)  # width, height
_CLIP_FRAMES = 4


_PROBED: dict[HardwareDecoder, str] = {}
_LOCK = threading.Lock()


def decoder_problem(kind: HardwareDecoder) -> str:
    """Why a hardware decoder does not work here; empty if it does. Tried at the first call, then remembered."""
    with _LOCK:
        if kind not in _PROBED:
            absence = _absence(kind)
            _PROBED[kind] = absence or _failure(kind)
            if absence:  # as on most machines: nothing that anyone has to be told in each run
                _LOG.debug("no %s: %s", kind.name, absence)
            elif _PROBED[kind]:
                _LOG.info("video is decoded in software: %s: %s", kind.name, _PROBED[kind])
            else:
                _LOG.info("video is decoded by %s", kind.name)
        return _PROBED[kind]


def choose_decoder(asked: DecoderName) -> DecoderChoice:
    """The decoder for ``decoder: asked``; raises :class:`SourceError` if one was named and does not work here."""
    if asked == "software":
        return SOFTWARE
    problems = []
    for kind in HARDWARE:
        if asked in ("auto", kind.name):
            problem = decoder_problem(kind)
            if not problem:
                return DecoderChoice(kind, f"{kind.name} works here", asked != "auto")
            problems.append(problem)
    why = "; ".join(problems)
    if asked != "auto":
        raise SourceError(f"decoder: {asked} does not work here: {why}; decoder: auto decodes in software")
    return DecoderChoice(None, why)


def open_hardware(kind: HardwareDecoder, codec: str, *, fallback: bool) -> VideoCodecContext:
    """A decoder of ``codec`` on the default device; ``fallback``: FFmpeg decodes what the device cannot in software.

    Raises ``av.FFmpegError`` if the device does not open, :class:`NotImplementedError` if it has no such codec.
    """
    context = CodecContext.create(codec, "r", HWAccel(kind.device_type, allow_software_fallback=fallback))
    if not isinstance(context, VideoCodecContext) or not context.is_hwaccel:
        raise NotImplementedError(f"{kind.name} does not decode {codec}")
    context.thread_count = 1
    return context


def _absence(kind: HardwareDecoder) -> str:
    """What this machine or this FFmpeg lacks for it."""
    if kind.device_type not in hwdevices_available():
        return f"this FFmpeg was built without {kind.device_type}"
    for library, meaning in kind.libraries:
        try:
            ctypes.CDLL(library)
        except OSError:
            return meaning
    return ""


def _failure(kind: HardwareDecoder) -> str:
    """What went wrong with a short clip."""
    try:
        packets = _clip()
        software = CodecContext.create("h264", "r")
        assert isinstance(software, VideoCodecContext)
        expected = _images(software, packets)
        given = _images(open_hardware(kind, "h264", fallback=False), packets)
    except (av.FFmpegError, NotImplementedError) as error:
        return f"a test clip cannot be decoded ({getattr(error, 'strerror', None) or error})"
    if len(given) != len(expected) or not all(map(np.array_equal, given, expected)):
        return "it decodes a test clip to other images than the software decoder"
    return ""


def _clip() -> list[Packet[VideoStream]]:
    width, height = _CLIP_SIZE
    encoder = CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, "yuv420p", Fraction(25)
    encoder.options = {"preset": "ultrafast"}
    noise = np.random.default_rng(0).integers(0, 256, (_CLIP_FRAMES, height * 3 // 2, width), np.uint8)
    packets = []
    for image in noise:
        packets += encoder.encode(VideoFrame.from_ndarray(image, format="yuv420p"))
    return [*packets, *encoder.encode(None)]


def _images(context: VideoCodecContext, packets: list[Packet[VideoStream]]) -> list[NDArray[np.uint8]]:
    frames = [frame for packet in [*packets, None] for frame in context.decode(packet)]
    return [np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8) for frame in frames]
