"""Frames that are missing in the middle of a damaged file are counted; those that were never there are not."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.video_files import read

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.core.frames import UnreadableFrame
from fusepipe.pipeline.testing import CollectSink


def write(path, codec, times, other_times=()):
    """Images of noise, each a key frame, at these multiples of 1/25 s; a second stream has others."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=25) for _ in range(2 if other_times else 1)]
        for stream in streams:
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "gray" if codec == "ffv1" else "yuv420p"
            stream.codec_context.gop_size = 1
            stream.codec_context.time_base = Fraction(1, 25)
        for time in sorted({*times, *other_times}):
            stream = streams[0 if time in times else 1]
            pixels = rng.integers(0, 256, (48, 64), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="gray").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def damage(path):
    """Zeroes the middle third."""
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 3, 2 * len(data) // 3
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


def unreadable(items):
    return [item.reason for item in items if isinstance(item, UnreadableFrame)]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "ffv1"), ("nut", "ffv1"), ("flv", "flv1")])
def test_frames_that_are_missing_after_damage_are_counted(tmp_path, suffix, codec):
    path = write(tmp_path / f"a.{suffix}", codec, range(30))
    assert len(read(path)) == 30 and not unreadable(read(path))
    damage(path)
    items = read(path)
    *damaged, said = unreadable(items)
    number = 30 - len({item.capture_ns for item in items[:-1]})
    assert said.startswith(f"about {number} frames missing after 0.") and "bytes of it are no packets" in said
    assert 8 < number < 16 and len(damaged) <= 2, "the packet where it begins may be unreadable by itself"


def test_places_are_counted(tmp_path):
    path = write(tmp_path / "a.mkv", "ffv1", range(30))
    data = bytearray(path.read_bytes())
    for begin in (len(data) // 4, 5 * len(data) // 8):
        data[begin : begin + 8000] = bytes(8000)
    path.write_bytes(data)
    assert " s in 2 places: the file is damaged" in unreadable(read(path))[-1]


@pytest.mark.parametrize(
    "times",
    [[*range(10), *range(20, 30)], [0, 1, 2, 5, 6, 9, 10, 30, 31, 32], [number**2 for number in range(12)]],
    ids=["pause", "left out", "variable"],
)
def test_times_that_the_file_never_had_are_not_missing(tmp_path, times):
    assert not unreadable(read(write(tmp_path / "a.mkv", "ffv1", times)))


def test_metadata_of_a_stream_that_came_back_after_a_pause_is_no_damage(tmp_path):
    """As servers write it into FLV recordings when the camera connects again: a script tag with a long text."""
    path = write(tmp_path / "a.flv", "flv1", [*range(10), *range(20, 30)])
    data, at = path.read_bytes(), 13
    for _ in range(1 + 10):  # the tags of the metadata and of the first ten images
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    script = b"\x02\x00\x0aonMetaData\x02\x01\xf4" + 500 * b"x"
    tag = b"\x12" + len(script).to_bytes(3, "big") + bytes(7) + script
    path.write_bytes(data[:at] + tag + (len(tag)).to_bytes(4, "big") + data[at:])
    items = read(path)
    assert len(items) == 20 and not unreadable(items)


def test_packets_of_other_streams_are_no_damage(tmp_path):
    path = write(tmp_path / "a.mkv", "ffv1", [*range(10), *range(20, 30)], range(10, 20))
    items = read(path)
    assert len(items) == 20 and not unreadable(items)


@pytest.mark.parametrize("damaged", ["infrared", "visible"])
def test_a_run_counts_them_in_either_camera_and_takes_them_for_no_longer_recording(tmp_path, damaged):
    files = {band: write(tmp_path / f"{band}.mkv", "ffv1", range(30)) for band in ("infrared", "visible")}
    damage(files[damaged])
    cameras = {band: {"url": str(path)} for band, path in files.items()}
    rig = Rig.model_validate({"name": "roof", **cameras, "fusion": {"model": "mean"}})
    report = fusepipe.Pipeline(rig, sinks=[CollectSink()]).run()
    assert report.skipped[f"unreadable {damaged}"] == 2
    assert any("frames missing after 0.360 s" in note for note in report.notes)
    assert not any("continues after" in reason for reason in report.skipped)
