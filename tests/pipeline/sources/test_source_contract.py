"""Every source meets the contract of ``pipeline/sources/base.py``; a new source adds a line to ``MAKERS``."""

import gc
import threading
import time

import av
import cv2
import numpy as np
import pytest

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource

COUNT = 6


def images(folder, band):
    folder.mkdir()
    for i in range(COUNT):
        colour = np.full((30, 41, 3), 20 * i, np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), colour if band is Band.VISIBLE else colour[:, :, 0])
    return ImageFolderSource(folder, band, fps=25)


def video(folder, band):
    path = folder.with_suffix(".mkv")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height = 41, 30
        stream.pix_fmt = "gray" if band is Band.INFRARED else "yuv420p"
        for i in range(COUNT):
            av_frame = av.VideoFrame.from_ndarray(np.full((30, 41), 20 * i, np.uint8), "gray")
            container.mux(stream.encode(av_frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    return VideoFileSource(path, band)


def synthetic(folder, band):
    return SyntheticSource("synthetic://street?size=41x30&fps=25&duration=240ms", band)


MAKERS = {"images": images, "video": video, "synthetic": synthetic}


@pytest.fixture(params=[(kind, band) for kind in MAKERS for band in Band], ids=lambda p: f"{p[0]}-{p[1]}")
def source(request, tmp_path):
    kind, band = request.param
    made = MAKERS[kind](tmp_path / "in", band)
    yield made
    made.close()


def test_frames_match_the_properties_and_are_in_order(source):
    info = source.open()
    frames = list(source.frames(threading.Event()))
    assert len(frames) == COUNT and (info.frames in (None, COUNT))
    assert all(isinstance(f, Frame) for f in frames)
    assert [f.index for f in frames] == list(range(COUNT))
    assert {(f.width, f.height) for f in frames} == {(info.width, info.height)} == {(41, 30)}
    assert {len(f.planes) for f in frames} == {1 if info.grey else 3}
    assert {f.luma.bit_depth for f in frames} == {info.bit_depth}
    assert info.fps == 25 and info.codec


def test_every_frame_carries_its_times(source):
    source.open()
    before = time.monotonic_ns()
    frames = list(source.frames(threading.Event()))
    assert [f.capture_ns for f in frames] == [i * 40_000_000 for i in range(COUNT)]
    for f in frames:
        assert float(f.pts * f.time_base) == pytest.approx(f.capture_ns / 1e9, abs=1e-3)
        assert before <= f.arrival_ns <= time.monotonic_ns()
        assert f.band is source.band


def test_pixels_are_read_only(source):
    source.open()
    frame = next(iter(source.frames(threading.Event())))
    for plane in frame.planes:
        assert not plane.pixels.flags.writeable


def test_frames_stay_valid_while_later_ones_are_read(source):
    """Decoders recycle buffers: a frame that is held must not change under its holder."""
    source.open()
    frames, copies = [], []
    for frame in source.frames(threading.Event()):
        frames.append(frame)
        copies.append([p.pixels.copy() for p in frame.planes])
    for frame, copy in zip(frames, copies, strict=True):
        assert all(np.array_equal(p.pixels, c) for p, c in zip(frame.planes, copy, strict=True))


def test_frames_that_are_dropped_are_freed_at_once(source):
    """Not by the garbage collector: it may run every few minutes, while a camera delivers 10 MB a second."""
    source.open()
    gc.collect()
    gc.disable()
    try:
        before = decoded_frames()
        for _ in source.frames(threading.Event()):
            assert decoded_frames() - before <= 2, "the one just delivered, and that of the next"
    finally:
        gc.enable()


def decoded_frames():
    return sum(type(found) is av.VideoFrame for found in gc.get_objects())  # isinstance wakes lazy objects of others


def test_stop_ends_the_frames(source):
    source.open()
    stop = threading.Event()
    seen = 0
    for _ in source.frames(stop):
        seen += 1
        stop.set()
    assert seen == 1


def test_close_may_be_called_twice_and_without_reading(source):
    source.open()
    source.close()
    source.close()
    assert source.label


@pytest.mark.parametrize("kind", [ImageFolderSource, VideoFileSource])
def test_a_missing_path(kind, tmp_path):
    with pytest.raises(SourceError, match=r"nowhere.*no such file"):
        kind(tmp_path / "nowhere", Band.VISIBLE).open()
