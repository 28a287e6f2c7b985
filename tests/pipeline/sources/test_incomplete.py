"""Videos that are not whole: what is said of those that cannot be opened, and of those that end early."""

import re
import subprocess

import av
import numpy as np
import pytest
from helpers.video_files import read

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, UnreadableFrame
from fusepipe.pipeline.sources.files.incomplete import is_cut, why_unreadable
from fusepipe.pipeline.sources.files.video_file import VideoFileSource

UNKNOWN = "FFmpeg cannot read this video: unknown"


def write(path, count, **options):
    """``count`` images of noise, which no codec makes small, each a key frame."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(count):
            pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuvj420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def missing(items):
    return [item for item in items if isinstance(item, UnreadableFrame)]


def test_a_matroska_file_that_ends_early_is_counted(tmp_path):
    write(tmp_path / "a.mkv", 15)
    assert not missing(read(tmp_path / "a.mkv"))
    cut(tmp_path / "a.mkv", 0.5)
    *frames, last = read(tmp_path / "a.mkv")
    assert missing([*frames, last]) == [last] and last.index == len(frames) and 4 <= len(frames) <= 8
    assert last.reason == f"the file ends at {len(frames) / 5:.3f} s of 3.000 s: it is incomplete"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_mp4_file_with_its_index_at_the_beginning_that_ends_early_is_counted(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, 15, movflags="faststart")
    assert not missing(read(path))
    cut(path, 0.5)
    items = read(path)
    assert re.fullmatch(r"the file ends at [12]\.\d00 s of 3\.000 s: it is incomplete", items[-1].reason)


def test_a_recording_that_was_never_finished_is_read_without_a_word(tmp_path):
    """As after a power failure: its header has no length."""
    write(tmp_path / "a.mkv", 15, live="1")
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.duration is None
    cut(tmp_path / "a.mkv", 0.5)
    items = read(tmp_path / "a.mkv")
    assert len(items) > 3 and not missing(items)


def test_a_last_image_that_is_shown_for_long_is_not_missing_video(tmp_path, ffmpeg):
    """MP4 has the duration of each frame, Matroska only the end of the last one."""
    write(tmp_path / "a.mp4", 5)
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux() if packet.size]
        packets[-1].duration *= 30
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "b.mp4", "-c:v", "copy", tmp_path / "c.mkv"]
    subprocess.run(command, check=True, timeout=60)
    with av.open(str(tmp_path / "c.mkv")) as container:
        assert container.streams.video[0].metadata["DURATION"] == "00:00:06.800000000"
    items = read(tmp_path / "c.mkv")
    assert not missing(items) and items[-1].capture_ns < 10**9


@pytest.mark.parametrize("header", [b"", b"\0" * 12, b"\x1a\x45\xdf\xa3", b"\x80\x80" * 6, b"\x18\x53\x80\x67\xff"])
def test_a_header_of_any_bytes_is_not_that_of_a_cut_file(tmp_path, header):
    """The last one: of unknown size, as of a recording that is being written."""
    (tmp_path / "a.mkv").write_bytes(header)
    assert not is_cut(tmp_path / "a.mkv")
    (tmp_path / "a.mkv").write_bytes(b"\x18\x53\x80\x67\x82")
    assert is_cut(tmp_path / "a.mkv")


def test_sound_that_is_longer_is_not_missing_video(tmp_path, ffmpeg):
    write(tmp_path / "a.mkv", 5)
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "a.mkv", "-f", "lavfi", "-i", "sine=d=4", "-c:v", "copy"]
    subprocess.run([*command, tmp_path / "b.mkv"], check=True, timeout=60)
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.duration > 3.9 * av.time_base
    items = read(tmp_path / "b.mkv")
    assert len(items) == 5 and not missing(items)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_mp4_file_without_its_index_is_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, 15)
    assert why_unreadable(path, "unknown") == UNKNOWN
    cut(path, 0.5)
    with pytest.raises(SourceError, match=r"a\.m..: is incomplete: it has no index \(moov\), .* untrunc"):
        VideoFileSource(path, Band.VISIBLE).open()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"text", UNKNOWN),
        (b"\0\0\0\x08ftyp\0\0\0\0mdat", "is incomplete"),
        (b"\0\0\0\x01ftyp\0\0\0", "is incomplete"),
        (b"\0\0\0\0ftyp", "is incomplete"),
        (b"\0\0\0\x01ftyp" + b"\xff" * 8, "is incomplete"),
    ],
)
def test_any_bytes_are_read(tmp_path, content, said):
    (tmp_path / "a.mp4").write_bytes(content)
    assert why_unreadable(tmp_path / "a.mp4", "unknown").startswith(said)


def test_a_file_that_is_gone_is_what_the_caller_says(tmp_path):
    assert why_unreadable(tmp_path / "gone.mp4", "unknown") == UNKNOWN
