"""Video files with timing gaps, mirrored display matrices and malformed SEI, made with ffmpeg."""

import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.made_clips import write_titled
from helpers.video_files import read

from fusepipe.config.locations import split_stream
from fusepipe.config.schema import Rig, SourceConfig
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline


def ffmpeg_video(ffmpeg, path, *options, source="testsrc=s=160x120:r=25:d=3"):
    command = [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, path]
    subprocess.run([str(word) for word in command], check=True, timeout=60)
    return path


GAP = ["-vf", "select='not(between(n,25,49))'", "-fps_mode", "passthrough"]


@pytest.mark.parametrize("band", Band)
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", ["mjpeg"]),
        ("a.avi", ["ffv1"]),
        ("a.avi", ["mpeg4", "-bf", "2"]),
        ("a.avi", ["libx264", "-bf", "0"]),
        ("a.avi", ["libx264", "-bf", "3"]),
        ("a.mp4", ["libx264", "-bf", "2"]),
        ("a.ts", ["libx264", "-bf", "2"]),
        ("a.mkv", ["mjpeg"]),
        ("a.mpg", ["mpeg2video"]),
        ("a.flv", ["flv"]),
        ("a.wmv", ["wmv2"]),
        ("a.gif", ["gif"]),
    ],
    ids=" ".join,
)
def test_dropped_frames_leave_a_gap_in_the_times(tmp_path, ffmpeg, name, codec, band):
    frames = read(ffmpeg_video(ffmpeg, tmp_path / name, *GAP, "-c:v", *codec), band)
    begin = 0 if name != "a.mpg" else frames[0].capture_ns
    expected = [40 * n for n in range(75) if not 25 <= n <= 49]
    assert [round((f.capture_ns - begin) / 1e6) for f in frames] == expected


def test_a_forced_rate_keeps_the_gaps_of_an_avi(tmp_path, ffmpeg):
    frames = read(ffmpeg_video(ffmpeg, tmp_path / "a.avi", *GAP, "-c:v", "mjpeg"), fps=50)
    assert [f.capture_ns // 1_000_000 for f in frames[23:27]] == [460, 480, 1000, 1020]


MATRICES = {
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "transpose": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
    "rotate 90": (0, 1, -1, 0),
    "rotate 180": (-1, 0, 0, -1),
    "rotate 270": (0, -1, 1, 0),
}


@pytest.mark.parametrize("band", Band)
@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_are_applied_as_ffmpeg_does(tmp_path, ffmpeg, name, band):
    plain = ffmpeg_video(ffmpeg, tmp_path / "a.mp4", "-frames:v", "3", "-pix_fmt", "yuv420p", "-c:v", "libx264")
    a, b, c, d = (value << 16 for value in MATRICES[name])
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = tmp_path / "b.mp4"
    path.write_bytes(data)
    command = [ffmpeg, "-v", "error", "-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    raw = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    source = VideoFileSource(path, band)
    info = source.open()
    source.close()
    frame = read(path, band)[0]
    assert (frame.width, frame.height) == (info.width, info.height)
    shape = (frame.height, frame.width)
    assert shape == ((160, 120) if MATRICES[name][0] == 0 else (120, 160))
    sizes = [shape] if band is Band.INFRARED else [shape, *[(shape[0] // 2, shape[1] // 2)] * 2]
    at = 0
    for plane, size in zip(frame.planes, sizes, strict=True):
        expected = np.frombuffer(raw, np.uint8, size[0] * size[1], at).reshape(size)
        at += expected.size
        assert np.array_equal(plane.pixels, expected)


def with_sloppy_sei(data, sei):
    """An Annex B stream with ``sei`` before each slice."""
    out = b""
    for unit in re.split(b"\0\0\0\1|\0\0\1", data)[1:]:
        if unit[0] & 31 in (1, 5):
            out += b"\0\0\0\1" + sei
        out += b"\0\0\0\1" + unit
    return out


SLOPPY = {
    "longer than the unit": b"\x06\x05" + bytes([162]) + b"\x55" * 122 + b"\x80",
    "user data without its identifier": b"\x06\x05\x04abcd\x80",
    "registered data without its fields": b"\x06\x04\x01\xb5\x80",
    "cut off in its size": b"\x06\x05\xff\xff",
    "recovery point that is cut off": b"\x06\x06\x20\x80",
    "pseudo-random": b"\x06" + bytes((7 * i * i + 3) % 251 + 4 for i in range(60)),
}


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "h264"])
@pytest.mark.parametrize("sei", SLOPPY)
def test_sloppy_sei_costs_no_frame(tmp_path, ffmpeg, sei, container):
    plain = ffmpeg_video(ffmpeg, tmp_path / "a.h264", "-c:v", "libx264", "-bf", "0")
    (tmp_path / "b.h264").write_bytes(with_sloppy_sei(plain.read_bytes(), SLOPPY[sei]))
    path = tmp_path / f"c.{container}"
    command = [ffmpeg, "-v", "error", "-r", "25", "-i", tmp_path / "b.h264", "-c", "copy", path]
    subprocess.run(command, check=True, timeout=60)
    frames, expected = read(path), read(plain)
    assert all(isinstance(frame, Frame) for frame in frames) and len(frames) == len(expected) == 75
    for frame, other in zip(frames, expected, strict=True):
        assert np.array_equal(frame.luma.pixels, other.luma.pixels)


def test_sloppy_sei_of_hevc_costs_no_frame(tmp_path, ffmpeg):
    plain = ffmpeg_video(ffmpeg, tmp_path / "a.hevc", "-c:v", "libx265", "-x265-params", "bframes=0:log-level=none")
    out = b""
    for unit in re.split(b"\0\0\0\1|\0\0\1", plain.read_bytes())[1:]:
        if unit[0] >> 1 & 63 < 32:  # a slice
            out += b"\0\0\0\1\x4e\x01\x05" + bytes([162]) + b"\x55" * 122 + b"\x80"
        out += b"\0\0\0\1" + unit
    (tmp_path / "b.hevc").write_bytes(out)
    command = [ffmpeg, "-v", "error", "-r", "25", "-i", tmp_path / "b.hevc", "-c", "copy", tmp_path / "c.mp4"]
    subprocess.run(command, check=True, timeout=60)
    frames = read(tmp_path / "c.mp4")
    assert len(frames) == 75 and all(isinstance(frame, Frame) for frame in frames)


def test_damage_is_recognised_between_sloppy_sei(tmp_path, ffmpeg):
    plain = ffmpeg_video(ffmpeg, tmp_path / "a.h264", "-c:v", "libx264", "-bf", "0", "-crf", "10")
    data = bytearray(with_sloppy_sei(plain.read_bytes(), SLOPPY["longer than the unit"]))
    slices = [m.end() for m in re.finditer(b"\0\0\0\1[\x41\x61\x01\x21]", data)]
    for at in range(slices[30] + 60, slices[30] + 400):
        data[at] ^= 0x5A
    (tmp_path / "b.h264").write_bytes(data)
    command = [ffmpeg, "-v", "error", "-r", "25", "-i", tmp_path / "b.h264", "-c", "copy", tmp_path / "c.mp4"]
    subprocess.run(command, check=True, timeout=60)
    items = read(tmp_path / "c.mp4")
    bad = [item for item in items if isinstance(item, UnreadableFrame)]
    assert bad and len(items) - len(bad) >= 70


@pytest.fixture
def two_streams(tmp_path, ffmpeg):
    """Audio, then a dark and a bright video, in one file."""
    command = [ffmpeg, "-v", "error"]
    for source in ("anullsrc=d=1", "color=0x202020:s=64x48:r=25:d=1", "color=white:s=96x48:r=25:d=1"):
        command += ["-f", "lavfi", "-i", source]
    path = tmp_path / "both.mkv"
    command += ["-map", "0", "-map", "1", "-map", "2", "-c:v", "ffv1", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.mark.parametrize(("stream", "size"), [(None, 64), (1, 64), (2, 96)])
def test_a_stream_is_chosen_by_its_index(two_streams, stream, size):
    source = VideoFileSource(two_streams, Band.VISIBLE, stream=stream)
    info = source.open()
    source.close()
    frames = read(two_streams, stream=stream)
    assert info.width == size and {frame.width for frame in frames} == {size} and len(frames) == 25
    text = (
        "has 2 video streams: stream 1 (ffv1 64x48), stream 2 (ffv1 96x48); stream 1 is used: "
        "add ?stream=2 to the name to choose another"
    )
    assert info.notes == ((text,) if stream is None else ())


def test_a_stream_of_a_file_in_a_rig_and_in_fuse(two_streams, tmp_path):
    rig = Rig.model_validate(
        {"infrared": {"url": f"{two_streams}?stream=1"}, "visible": {"url": f"file://{two_streams}?stream=2"}}
    )
    for band, config, size in ((Band.INFRARED, rig.infrared, 64), (Band.VISIBLE, rig.visible, 96)):
        source = make_source(config, band, "rig")
        assert source.open().width == size
        source.close()
    inputs = Path(f"{two_streams}?stream=1"), Path(f"{two_streams}?stream=2")
    report = fuse_pipeline(FuseOptions(*inputs, tmp_path / "out.mkv", model="max")).run()
    assert report.pairs == {"fused": 25} and not any("streams" in text for text in report.warnings)


def test_a_title_in_another_encoding_is_no_reason_to_reject_a_file(tmp_path):
    write_titled(tmp_path / "a.mkv", b"Stra\xdfe")
    assert [frame.width for frame in read(tmp_path / "a.mkv")] == [48, 48, 48]


@pytest.mark.parametrize("index", [0, 3])
def test_a_stream_without_video_is_rejected(two_streams, index):
    with pytest.raises(SourceError, match=rf"stream {index} is not a video stream; it has stream 1 \(ffv1 64x48\), "):
        read(two_streams, stream=index)


def test_a_file_whose_name_ends_like_a_stream_is_itself(two_streams):
    odd = two_streams.with_name("odd.mkv?stream=2")
    two_streams.rename(odd)
    assert split_stream(odd) == (odd, None)
    with pytest.raises(SourceError, match="no such file"):
        make_source(SourceConfig(url="a.mkv?stream=1"), Band.INFRARED, "rig")
