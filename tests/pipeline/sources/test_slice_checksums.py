"""Damaged frames of FFV1 are counted, and every other frame is exact."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from helpers.video_files import read

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, UnreadableFrame

FRAMES = 8
CHECKED = {"level": "3", "slicecrc": "1", "g": "1"}
GROUPS = CHECKED | {"g": "4"}
Counts = np.ndarray[tuple[int, int], np.dtype[np.uint16]]


def counts(index: int) -> Counts:
    return np.random.default_rng(index).integers(7000, 7400, (48, 64)).astype(np.uint16)


def written(path: Path, options: dict[str, str]) -> list[tuple[int, int]]:
    """A file of frames; position and size of each packet."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "gray16le", options
        stream.codec_context.gop_size = int(options["g"])
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(counts(index), format="gray16le")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        places = []
        for packet in container.demux(video=0):
            if packet.size:
                found = path.read_bytes().find(bytes(packet))
                assert found > 0
                places.append((found, packet.size))
    return places


def overwrite(path: Path, position: int, length: int) -> None:
    data = bytearray(path.read_bytes())
    data[position : position + length] = bytes(0xFF ^ byte for byte in data[position : position + length])
    path.write_bytes(data)


def is_exact(item: Frame | UnreadableFrame) -> bool:
    return isinstance(item, Frame) and bool((item.luma.pixels == counts(item.index)).all())


def damaged(items: list[Frame | UnreadableFrame]) -> list[int]:
    """The numbers of the frames that are unreadable; every other is exact, and each has its time."""
    assert [item.capture_ns for item in items] == [40_000_000 * index for index in range(FRAMES)]
    bad = [item.index for item in items if isinstance(item, UnreadableFrame)]
    assert all(is_exact(item) for item in items if item.index not in bad)
    return bad


@pytest.mark.parametrize(
    "options",
    [
        CHECKED,
        CHECKED | {"slices": "24"},
        CHECKED | {"coder": "rice"},
        CHECKED | {"slicecrc": "0"},
        CHECKED | {"level": "4", "slicecrc": "2", "strict": "experimental"},
        {"level": "1", "g": "1"},
        GROUPS,
    ],
    ids=["crc", "24-slices", "rice", "without", "version-4", "version-1", "groups"],
)
def test_intact_frames_are_read(options: dict[str, str], tmp_path: Path) -> None:
    written(tmp_path / "ir.mkv", options)
    assert damaged(read(tmp_path / "ir.mkv", Band.INFRARED)) == []


@pytest.mark.parametrize("name", ["ir.mkv", "ir.avi"])
@pytest.mark.parametrize("share", [0, 0.4, 0.99])
@pytest.mark.parametrize("length", [1, 40])
def test_a_damaged_frame_is_unreadable(name: str, share: float, length: int, tmp_path: Path) -> None:
    position, size = written(tmp_path / name, CHECKED)[3]
    overwrite(tmp_path / name, position + min(int(share * size), size - length), length)
    assert damaged(read(tmp_path / name, Band.INFRARED)) == [3]


@pytest.mark.parametrize("level", ["3", "4"])
def test_checksums_of_each_kind_are_verified(level: str, tmp_path: Path) -> None:
    kind = {"level": level, "slicecrc": "1" if level == "3" else "2", "strict": "experimental"}
    for index, (position, size) in enumerate(written(tmp_path / "ir.mkv", CHECKED | kind)):
        if index % 2:
            overwrite(tmp_path / "ir.mkv", position + size // 3, 1)
    assert damaged(read(tmp_path / "ir.mkv", Band.INFRARED)) == [1, 3, 5, 7]


def test_damage_at_the_beginning_is_counted(tmp_path: Path) -> None:
    places = written(tmp_path / "ir.mkv", CHECKED)
    for position, _ in places[:2]:
        overwrite(tmp_path / "ir.mkv", position + 100, 40)
    assert damaged(read(tmp_path / "ir.mkv", Band.INFRARED)) == [0, 1]


def test_frames_that_depend_on_a_damaged_one_are_unreadable(tmp_path: Path) -> None:
    position, size = written(tmp_path / "ir.mkv", GROUPS)[1]
    overwrite(tmp_path / "ir.mkv", position + size // 2, 1)
    items = read(tmp_path / "ir.mkv", Band.INFRARED)
    assert damaged(items) == [1, 2, 3]
    reasons = [item.reason for item in items[1:4]]
    assert "checksum" in reasons[0] and reasons[1:] == ["depends on a damaged frame"] * 2


def test_a_file_of_damaged_frames_only_is_rejected(tmp_path: Path) -> None:
    for position, size in written(tmp_path / "ir.mkv", CHECKED):
        overwrite(tmp_path / "ir.mkv", position + size // 2, 1)
    with pytest.raises(SourceError, match="no frame of its ffv1 stream can be decoded"):
        read(tmp_path / "ir.mkv", Band.INFRARED)
