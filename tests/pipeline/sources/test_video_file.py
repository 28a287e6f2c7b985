"""Video files: codecs, pixel formats, value ranges, rotation, variable frame rate, damage."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.video_files import read

from fusepipe.core import image_files
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.pipeline.sources.files.video_file import VideoFileSource

H, W = 48, 65
RAMP = np.tile(np.linspace(16, 235, W).astype(np.uint8), (H, 1))


@contextmanager
def own_priority() -> Iterator[None]:
    """Restores the priority of this thread: SVT-AV1 gives it, where root runs it, the highest real-time one.

    All later tests of the process would inherit it, and the processes that they start: a loop in the kernel while a
    child is reaped then never ends.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write(path, images, codec="ffv1", pix_fmt="yuv420p", *, pts=None, color_range=None, options=None, rate=25):
    """Writes arrays as luma (yuv, gray) or whole images (rgb) without touching their codes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if color_range:
            stream.codec_context.color_range = color_range
        for index, pixels in enumerate(images):
            if pixels.ndim == 3:
                av_frame = av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format=pix_fmt)
            else:
                av_frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], pix_fmt)
                for number, plane in enumerate(av_frame.planes):
                    rows = np.frombuffer(memoryview(plane), pixels.dtype).reshape(plane.height, -1)
                    rows[:] = 1 << (8 * pixels.itemsize - 1) if pixels.dtype == np.uint8 else 512
                    if number == 0:
                        rows[:, : plane.width] = pixels
            av_frame.pts = pts[index] if pts else index * 40
            av_frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(av_frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "gray"])
def test_luma_comes_straight_from_the_file(tmp_path, pix_fmt):
    write(tmp_path / "a.mkv", [RAMP] * 3, pix_fmt=pix_fmt)
    frames = read(tmp_path / "a.mkv")
    assert len(frames) == 3
    for frame in frames:
        assert np.array_equal(frame.luma.pixels, RAMP)
        assert len(frame.planes) == (1 if pix_fmt == "gray" else 3)


@pytest.mark.parametrize(("color_range", "expected"), [(1, "limited"), (2, "full"), (None, "limited")])
def test_the_value_range_is_that_of_the_file(tmp_path, color_range, expected):
    write(tmp_path / "a.mkv", [RAMP], color_range=color_range)
    (frame,) = read(tmp_path / "a.mkv")
    assert {p.value_range for p in frame.planes} == {expected}


@pytest.mark.parametrize(("pix_fmt", "bits"), [("gray16le", 16), ("gray12le", 12), ("yuv420p10le", 10)])
def test_deep_infrared_keeps_its_counts(tmp_path, pix_fmt, bits):
    counts = np.random.default_rng(0).integers(0, 1 << bits, (H, W), dtype=np.uint16)
    write(tmp_path / "a.mkv", [counts], pix_fmt=pix_fmt)
    (frame,) = read(tmp_path / "a.mkv", Band.INFRARED)
    assert frame.luma.bit_depth == bits and np.array_equal(frame.luma.pixels, counts)


def test_deep_visible_becomes_8_bit(tmp_path):
    ramp = np.tile(np.linspace(64, 940, W).astype(np.uint16), (H, 1))
    write(tmp_path / "a.mkv", [ramp], pix_fmt="yuv420p10le")
    (frame,) = read(tmp_path / "a.mkv")
    assert [p.bit_depth for p in frame.planes] == [8, 8, 8] and frame.luma.value_range == "limited"
    assert np.abs(frame.luma.pixels - ramp / 4).max() <= 1


def test_rgb_becomes_full_range_with_full_chroma(tmp_path):
    white = np.full((H, W, 3), 255, np.uint8)
    write(tmp_path / "a.mkv", [white], pix_fmt="bgr0")
    (frame,) = read(tmp_path / "a.mkv")
    assert frame.luma.value_range == "full" and int(frame.luma.pixels.min()) >= 254
    assert frame.chroma[0].pixels.shape == (H, W)


def test_variable_frame_rate_keeps_its_times(tmp_path):
    pts = [0, 40, 45, 200, 1000]
    write(tmp_path / "a.mkv", [RAMP] * 5, pts=pts)
    assert [f.capture_ns // 1_000_000 for f in read(tmp_path / "a.mkv")] == pts


def test_a_forced_rate_replaces_the_times(tmp_path):
    write(tmp_path / "a.mkv", [RAMP] * 3, pts=[0, 40, 500])
    assert [f.capture_ns // 1_000_000 for f in read(tmp_path / "a.mkv", fps=50)] == [0, 20, 40]


def test_transport_streams_start_at_zero(tmp_path):
    image = np.tile(RAMP[:, :64], (1, 1))
    write(tmp_path / "a.ts", [image] * 5, "libx264", options={"tune": "zerolatency"})
    assert read(tmp_path / "a.ts")[0].capture_ns == 0


# The display matrix of an MP4 track header (ISO 14496-12, 8.3.2), turning clockwise.
CLOCKWISE = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("degrees", CLOCKWISE)
def test_rotation_marks_are_applied(tmp_path, degrees):
    stored = np.zeros((32, 64), np.uint8) + 16
    stored[:8, :8] = 235  # the top left corner is white
    path = tmp_path / "a.mp4"
    write(path, [stored], "libx264", options={"crf": "0"})
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value * 65536 for value in CLOCKWISE[degrees])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    source = VideoFileSource(path, Band.VISIBLE)
    info = source.open()
    source.close()
    (frame,) = read(path)
    assert (info.width, info.height) == (frame.width, frame.height)
    expected = np.rot90(stored, -degrees // 90)
    assert frame.luma.pixels.shape == expected.shape
    assert np.abs(frame.luma.pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "mjpeg", "libsvtav1", "libvpx-vp9", "ffv1"])
def test_any_codec(tmp_path, codec):
    images = [np.clip(RAMP[:, :64].astype(int) + 3 * i, 16, 235).astype(np.uint8) for i in range(5)]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    before = os.sched_getscheduler(0)
    with own_priority():
        write(tmp_path / "a.mkv", images, codec, pix_fmt)
    assert os.sched_getscheduler(0) == before
    frames = read(tmp_path / "a.mkv")
    assert len(frames) == 5
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.luma.pixels.astype(int) - image).mean() < 6


def moving(count, size=(160, 240)):
    rng = np.random.default_rng(0)
    texture = rng.integers(16, 236, (size[0], size[1] * 2), dtype=np.uint8)
    return [np.ascontiguousarray(texture[:, 4 * i : 4 * i + size[1]]) for i in range(count)]


# FFV1: test_slice_checksums.py
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_damaged_packet_is_counted_and_the_rest_is_read(tmp_path, codec):
    path = tmp_path / "a.mkv"
    options = {"tune": "zerolatency"} if codec == "libx264" else {}
    write(path, moving(20), codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", options=options)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = packets[10]
    data = bytearray(path.read_bytes())
    for offset in range(size // 3, size // 3 + 200):
        data[position + offset] ^= 0xA5
    path.write_bytes(data)
    items = read(path)
    bad = [i for i in items if isinstance(i, UnreadableFrame)]
    assert 1 <= len(bad) <= 2 and all(b.reason for b in bad)
    assert len(items) >= 19, "the frames behind the damage are read"
    assert bad[0].capture_ns == 400_000_000, "the damage is reported where it is"
    assert isinstance(items[-1], Frame) and items[-1].capture_ns == 19 * 40_000_000


def test_avi_with_reordered_frames_keeps_them_all(tmp_path, ffmpeg):
    """AVI has no presentation times; what FFmpeg guesses for B-frames must not be mixed with a rate."""
    write(tmp_path / "a.mkv", moving(30))
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "a.mkv", "-c:v", "libx264", "-bf", "3", tmp_path / "b.avi"]
    subprocess.run(command, check=True, timeout=60)
    frames = read(tmp_path / "b.avi")
    assert [f.capture_ns // 1_000_000 for f in frames] == [40 * i for i in range(30)]
    source = VideoFileSource(tmp_path / "b.avi", Band.VISIBLE)
    assert any("has no timestamps" in note for note in source.open().notes)
    source.close()


def test_b_frames_are_in_presentation_order(tmp_path):
    write(tmp_path / "a.mp4", moving(30), "libx264", options={"bf": "3", "crf": "1"})
    frames = read(tmp_path / "a.mp4")
    assert [f.capture_ns // 1_000_000 for f in frames] == [40 * i for i in range(30)]
    for frame, image in zip(frames, moving(30), strict=True):
        assert np.abs(frame.luma.pixels.astype(int) - image).mean() < 3


@pytest.mark.parametrize("lines", [48, 720])
def test_rgb_video_keeps_its_colours_at_any_size(tmp_path, lines):
    red = np.zeros((lines, 64, 3), np.uint8)
    red[:] = (0, 0, 254)
    write(tmp_path / "a.mkv", [red], pix_fmt="bgr0")
    (frame,) = read(tmp_path / "a.mkv")
    assert np.abs(image_files.to_bgr(frame).astype(int) - red).max() <= 3


@pytest.mark.parametrize("content", [b"#EXTM3U\n#EXTINF:1,\nother.ts\n", b"ffconcat version 1.0\nfile other.mkv\n"])
def test_a_playlist_does_not_open_other_files(tmp_path, content):
    write(tmp_path / "other.mkv", [RAMP])
    (tmp_path / "a.mkv").write_bytes(content)
    with pytest.raises(SourceError, match="is a playlist"):
        VideoFileSource(tmp_path / "a.mkv", Band.VISIBLE).open()


def test_a_name_cannot_pass_for_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "plain.mkv", [RAMP])
    (tmp_path / "plain.mkv").rename("concat:a|b.mkv")
    assert len(read(Path("concat:a|b.mkv"))) == 1


def test_interlaced_files_are_noted(tmp_path, ffmpeg):
    write(tmp_path / "a.mkv", moving(6))
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "a.mkv", "-vf", "setfield=tff", "-flags", "+ildct+ilme"]
    subprocess.run([*command, "-c:v", "mpeg2video", "-q:v", "2", tmp_path / "b.mkv"], check=True, timeout=60)
    source = VideoFileSource(tmp_path / "b.mkv", Band.VISIBLE)
    assert any("is interlaced" in note for note in source.open().notes)
    source.close()


def test_a_truncated_file_gives_the_frames_it_has(tmp_path):
    path = tmp_path / "a.mkv"
    write(path, moving(20), options={"g": "1"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    items = read(path)
    frames = [i for i in items if isinstance(i, Frame)]
    assert 8 <= len(frames) <= 11


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"no video" * 99, "cannot read this video")])
def test_a_file_that_is_not_a_video(tmp_path, content, said):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        VideoFileSource(path, Band.VISIBLE).open()


def test_a_file_without_video(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="has no video stream"):
        VideoFileSource(path, Band.VISIBLE).open()


@pytest.mark.data
def test_real_drone_video(data_dir):
    path = next((data_dir / "video").glob("*_side_by_side.mp4"))
    frames = read(path)
    assert len(frames) in (356, 417) and {(f.width, f.height) for f in frames} == {(960, 240)}
    assert all(a.capture_ns < b.capture_ns for a, b in pairwise(frames))
