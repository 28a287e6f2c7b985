"""Short H.264 clips of moving bars, as cameras write them: key frames often, B-frames, any times."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

MILLISECOND = Fraction(1, 1000)


def write_clip(
    path: Path,
    times_ms: Sequence[int],
    size: tuple[int, int] = (48, 32),
    *,
    key_every: int = 10,
    b_frames: int = 2,
    audio: bool = False,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    x264: str = "",
) -> None:
    """One frame for each time, whose content is that of its time; ``audio`` adds a silent track.

    ``x264``: further options of the encoder, such as ``open-gop=1``.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = MILLISECOND
        stream.codec_context.gop_size = key_every
        if codec == "libx264":
            stream.options = {"bf": str(b_frames), "sc_threshold": "0", "threads": "1", "x264-params": x264}
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono") if audio else None
        for at_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(_picture(at_ms, size), format="gray").reformat(format=pixel_format)
            frame.pts, frame.time_base = at_ms, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8 * times_ms[-1]), np.int16), layout="mono")
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))


def _picture(at_ms: int, size: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    noise = np.random.default_rng(at_ms).integers(0, 16, x.shape)
    return np.asarray((x * 4 + y * 2 + at_ms // 5) % 224 + noise, np.uint8)


def write_counts(
    path: Path, times_ms: Sequence[int], size: tuple[int, int] = (48, 32), *, seed: int = 1, closed_ms: int = 0
) -> None:
    """A lossless 16-bit infrared clip: a scene that warms up, with stripes, a dead pixel, and a hot object at times.

    The shutter is closed before ``closed_ms``: all counts are equal.
    """
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    random = np.random.default_rng(seed)
    stripes = random.normal(0, 8, size[0])[None, :]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "gray16le"
        stream.time_base = stream.codec_context.time_base = MILLISECOND
        stream.options = {"g": "1", "level": "3", "slicecrc": "1"}
        for at_ms in times_ms:
            counts = 7000 + 6 * x + 4 * y + at_ms / 8 + stripes + random.normal(0, 4, x.shape)
            if at_ms % 3000 > 1500:
                counts[4:12, 6:18] += 1500
            counts[9, 30] = 0
            if at_ms < closed_ms:
                counts[:] = 7000
            frame = av.VideoFrame.from_ndarray(counts.clip(0, 65535).astype(np.uint16), format="gray16le")
            frame.pts, frame.time_base = at_ms, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_titled(path: Path, title: bytes) -> None:
    """Three frames in Matroska with a title in any encoding."""
    stand_in = "x" * len(title)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = stand_in
        stream = container.add_stream("mpeg4", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(48, 32, "yuv420p")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    assert content.count(stand_in.encode()) == 1
    path.write_bytes(content.replace(stand_in.encode(), title))
