"""The choice of a hardware encoder: what is tried, what counts as working, and the fallback to x264.

x264 stands in for hardware that works: it is opened and fed in the same way.
"""

import logging
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.recording import fused

from fusepipe.core.errors import SinkSetupError
from fusepipe.pipeline.encoding.hardware_encoders import HARDWARE, HardwareEncoder, choose_encoder, encoder_problem
from fusepipe.pipeline.sinks.files import video
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink


class WithoutDelay(HardwareEncoder):
    def options(self, quality: int) -> dict[str, str]:
        return {"preset": "ultrafast", "tune": "zerolatency", "crf": str(quality), "x264-params": "threads=1"}


class WithDelay(HardwareEncoder):
    def options(self, quality: int) -> dict[str, str]:
        return {"preset": "superfast"}


WORKS = WithoutDelay("qsv", "libx264", "nv12")
DELAYS = WithDelay("nvenc", "libx264", "yuv420p")
NO_DRIVER = HardwareEncoder("nvenc", "libx264", "yuv420p", "libnone-such.so.1")
NOT_BUILT = HardwareEncoder("nvenc", "h264_none_such", "yuv420p")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (WORKS, ""),
        (DELAYS, "libx264 delays frames: 0 packets for one frame"),
        (NO_DRIVER, "its driver is not installed: no libnone-such.so.1"),
        (NOT_BUILT, "this FFmpeg has no h264_none_such"),
    ],
)
def test_what_counts_as_working(kind: HardwareEncoder, problem: str) -> None:
    assert encoder_problem(kind, (64, 48)) == problem


@pytest.mark.parametrize("kind", HARDWARE, ids=lambda kind: kind.name)
def test_hardware_that_is_not_here_is_refused_by_name_and_quietly_passed_over_by_auto(
    kind: HardwareEncoder, capfd: pytest.CaptureFixture[str]
) -> None:
    if not encoder_problem(kind, (320, 240)):
        pytest.skip(f"{kind.name} works on this machine")
    with pytest.raises(SinkSetupError, match=rf"encoder: {kind.name} is not available here \({kind.name}: .+\); use"):
        choose_encoder(kind.name, (320, 240))
    assert choose_encoder("auto", (320, 240), (kind,)) is None
    assert capfd.readouterr().err == ""  # FFmpeg and the drivers write there


def test_auto_takes_the_first_that_works_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    kinds = (NOT_BUILT, DELAYS, WORKS, WithoutDelay("nvenc", "libx264", "yuv420p"))
    with caplog.at_level(logging.INFO, "fusepipe.pipeline.encoding.hardware_encoders"):
        assert choose_encoder("auto", (66, 48), kinds) == WORKS
        assert choose_encoder("auto", (66, 48), kinds) == WORKS
        assert choose_encoder("auto", (66, 48), (NOT_BUILT,)) is None
        assert choose_encoder("x264", (66, 48), kinds) is None
    assert caplog.messages == [
        "video is encoded by libx264",
        "video is encoded by x264 (nvenc: this FFmpeg has no h264_none_such)",
    ]


def images(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_a_recording_through_hardware_has_every_frame_and_the_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "choose_encoder", lambda asked, size: WORKS if asked == "auto" else None)
    for name, encoder in (("hard", "auto"), ("soft", "x264")):
        sink = VideoSink(tmp_path / f"{name}.mkv", VideoOptions(encoder=encoder, preset="ultrafast"), fps=25)
        for index in range(4):
            sink.write(fused(10 * index, size=(65, 47)))
        assert sink.close().frames == 4
    hard, soft = images(tmp_path / "hard.mkv"), images(tmp_path / "soft.mkv")
    assert [image.shape for image in hard] == [(48, 66)] * 4
    for index, (one, other) in enumerate(zip(hard, soft, strict=True)):
        np.testing.assert_allclose(one.astype(int), other, atol=2)
        np.testing.assert_allclose(one.astype(int), 10 * index, atol=3)


def test_named_hardware_that_is_not_here_is_found_before_the_run(tmp_path: Path) -> None:
    if not encoder_problem(HARDWARE[0], video.TRIED_SIZE):
        pytest.skip("nvenc works on this machine")
    with pytest.raises(SinkSetupError, match="encoder: nvenc is not available here"):
        VideoSink(tmp_path / "a.mkv", VideoOptions(encoder="nvenc")).check()
    assert list(tmp_path.iterdir()) == []


def test_lossless_recordings_are_never_encoded_in_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("hardware was asked for")

    monkeypatch.setattr(video, "choose_encoder", refuse)
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions(encoder="auto", crf=0, preset="ultrafast"), fps=25)
    sink.write(fused(7))
    assert sink.close().frames == 1
