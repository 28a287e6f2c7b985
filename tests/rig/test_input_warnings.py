"""Whether two inputs are the same: the same stream of a file, or the same URL with its secrets."""

from dataclasses import replace

import av
import numpy as np
import pytest

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.sources.live.camera import UNKNOWN, LiveSource
from fusepipe.rig.input_warnings import input_warnings


@pytest.fixture
def two_streams(tmp_path):
    with av.open(str(tmp_path / "both.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for number, stream in enumerate(streams):
            pixels = np.full((48, 64), 100 + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
            container.mux(stream.encode(None))
    return tmp_path / "both.mkv"


@pytest.mark.parametrize(("first", "second", "same"), [(None, 0, True), (0, 0, True), (None, 1, False), (0, 1, False)])
def test_streams_of_one_file(two_streams, first, second, same):
    infrared = VideoFileSource(two_streams, Band.INFRARED, stream=first)
    visible = VideoFileSource(two_streams, Band.VISIBLE, stream=second)
    try:
        found = list(input_warnings((infrared, visible), infrared.open(), visible.open()))
    finally:
        infrared.close()
        visible.close()
    assert any("are the same" in text for text in found) == same


@pytest.mark.parametrize(("visible", "exchanged"), [("grey", True), ("natural", False), (None, False)])
def test_only_a_visible_camera_whose_images_are_known_can_be_exchanged(visible, exchanged):
    sources = (LiveSource("rtsp://one/ir", Band.INFRARED), LiveSource("rtsp://two/main", Band.VISIBLE))
    image = SourceInfo(
        width=640, height=480, fps=25.0, frames=None, grey=True, bit_depth=8, codec="h264", colour="natural"
    )
    shown = UNKNOWN if visible is None else replace(image, colour=visible)
    (warning,) = input_warnings(sources, image, shown)
    assert ("seem to be exchanged" in warning) == exchanged and "is in colour" in warning


@pytest.mark.parametrize(("token", "same"), [("channel-one", True), ("channel-two", False)])
def test_live_cameras_that_differ_in_a_token_are_not_the_same(token, same):
    infrared = LiveSource("http://cam.example.org/v?token=channel-one", Band.INFRARED)
    visible = LiveSource(f"http://cam.example.org/v?token={token}", Band.VISIBLE)
    found = list(input_warnings((infrared, visible), UNKNOWN, UNKNOWN))
    assert any("are the same" in text for text in found) == same
    assert "channel" not in "".join(found)
