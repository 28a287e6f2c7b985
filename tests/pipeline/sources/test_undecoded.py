"""Frames whose images are decoded on demand: as those that are all decoded, with the same numbers and times."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.made_clips import write_clip, write_counts

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.pipeline.sources.files.undecoded import MAX_KEPT, UndecodedFrames
from fusepipe.pipeline.sources.files.video_file import VideoFileSource

TIMES = [at_ms for at_ms in range(30, 900, 37) if not 300 < at_ms < 500]


def opened(path: Path) -> VideoFileSource:
    source = VideoFileSource(path, Band.INFRARED)
    source.open()
    return source


def undecoded(source: VideoFileSource) -> UndecodedFrames:
    frames = source.undecoded()
    assert frames is not None
    return frames


@pytest.mark.parametrize("damaged", [False, True], ids=["intact", "damaged"])
def test_numbers_times_and_images_are_those_of_decoding_all(damaged: bool, tmp_path: Path) -> None:
    path = tmp_path / "ir.mkv"
    write_counts(path, TIMES)
    if damaged:
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
        path.write_bytes(content)
    source, other = opened(path), opened(path)
    expected = list(source.frames(threading.Event()))
    frames = undecoded(other)
    found = list(frames)
    assert any(isinstance(item, UnreadableFrame) for item in expected) is damaged
    assert [(type(item), item.index, item.capture_ns) for item in found] == [
        (type(item), item.index, item.capture_ns) for item in expected
    ]
    for one, whole in list(zip(found, expected, strict=True))[::3]:
        if isinstance(one, Frame) and isinstance(whole, Frame):
            assert one.luma.pixels.size == 1
            image = frames.decoded(one)
            assert np.array_equal(image.luma.pixels, whole.luma.pixels)
            assert (image.index, image.pts, image.time_base) == (whole.index, whole.pts, whole.time_base)
            assert frames.decoded(one) is image
    source.close()
    other.close()


def test_what_is_passed_over_is_not_kept(tmp_path: Path) -> None:
    write_counts(tmp_path / "ir.mkv", TIMES)
    source = opened(tmp_path / "ir.mkv")
    frames = undecoded(source)
    first, second, *_ = [item for item in frames if isinstance(item, Frame)]
    frames.drop_before(second.index)
    assert frames.decoded(second).index == 1
    with pytest.raises(SourceError, match="frame 0 is not kept any more"):
        frames.decoded(first)
    source.close()


def test_a_camera_that_is_alone_for_long_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Its frames are in no pair, so that nobody asks for them or passes them over."""
    write_counts(tmp_path / "ir.mkv", range(0, 10 * (MAX_KEPT + 2), 10))
    source = opened(tmp_path / "ir.mkv")
    frames = undecoded(source)
    _, last_lost, first_kept, *_ = [item for item in frames if isinstance(item, Frame)]
    with pytest.raises(SourceError, match="frame 1 is not kept any more"):
        frames.decoded(last_lost)
    assert frames.decoded(first_kept).index == 2
    source.close()


def test_frames_that_need_others_are_not_read_so(tmp_path: Path) -> None:
    write_clip(tmp_path / "ir.mkv", TIMES)
    source = opened(tmp_path / "ir.mkv")
    assert source.undecoded() is None
    source.close()
    forced = VideoFileSource(tmp_path / "ir.mkv", Band.INFRARED, fps=25.0)
    forced.open()
    assert forced.undecoded() is None, "these frames have no times of their own"
    forced.close()
