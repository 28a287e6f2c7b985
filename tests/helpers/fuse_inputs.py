"""Images and videos for ``fusepipe fuse``."""

from fractions import Fraction

import av
import cv2
import numpy as np

RNG = np.random.default_rng(0)


def image(path, shape=(30, 40), dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
    assert cv2.imwrite(str(path), pixels)
    return path


def moving_video(path, start_s=0.0, count=32, every=1):
    """A video of every n-th of ``count`` frames at 25 frames per second whose times start at ``start_s``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for number in range(0, count, every):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), number, np.uint8), format="gray")
            frame.pts, frame.time_base = number + round(start_s * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
