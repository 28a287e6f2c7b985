"""What cameras and their links do to a pair, to measure what a method loses by it: grain and compression."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8

MAX_CRF = 51


def grained(infrared: Luma8, visible: Luma8, deviation: float, seed: int) -> tuple[Luma8, Luma8]:
    """Gaussian noise, independent in both HxW uint8 images, the same for the same ``seed``.

    ``deviation`` is in grey levels; the result is rounded and clipped to 0 to 255.
    """
    rng = np.random.default_rng(seed)

    def band(image: Luma8) -> Luma8:
        return (image + deviation * rng.standard_normal(image.shape)).round().clip(0, 255).astype(np.uint8)

    return band(infrared), band(visible)


def compressed(image: Luma8, crf: int) -> Luma8:
    """HxW uint8, both sides even, as the first picture of an H.264 stream at a constant rate factor of 0 to 51.

    Raises :class:`UsageError` for odd sides and for another rate factor.
    """
    height, width = image.shape
    if height % 2 or width % 2:
        raise UsageError(f"H.264 takes even sides here, not {width}x{height}: cut a row or a column")
    if not 0 <= crf <= MAX_CRF:
        raise UsageError(f"the rate factor of H.264 is 0 to {MAX_CRF}, not {crf}")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, "gray", Fraction(30)
    encoder.options = {"crf": str(crf), "preset": "medium", "threads": "1"}
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(image, "gray")), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    # the decoder may add empty chroma planes below; asking it for grey alone would convert the range of levels
    return np.ascontiguousarray(frames[0].to_ndarray()[:height], np.uint8)
