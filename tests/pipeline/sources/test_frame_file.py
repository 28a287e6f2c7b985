"""Raw files with a described layout, FLIR's sequences, and the counts of USB sticks in packed video."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.flir import CAPTURED_NS, fff

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.from_options import source_config

COUNTS = (18000 + 40 * np.add.outer(np.arange(12), np.arange(16))).astype(np.uint16)
PICTURE = np.tile(np.arange(16, dtype=np.uint8) * 10, (12, 1))
KELVIN = {"unit": "kelvin", "gain": 1 / 64}


def read(path: Path, band: Band = Band.INFRARED, **keys: Any) -> tuple[SourceInfo, list[Frame | UnreadableFrame]]:
    source = make_source(source_config(str(path), keys), band, "test")
    info = source.open()
    items = [item for item in source.frames(threading.Event()) if isinstance(item, Frame | UnreadableFrame)]
    source.close()
    return info, items


def pixels(item: Frame | UnreadableFrame) -> Any:
    assert isinstance(item, Frame)
    return item.luma.pixels


def stick_frame(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """24x16x2 bytes: the picture as YUYV above, little-endian counts below."""
    picture = np.stack([PICTURE, np.full_like(PICTURE, 128)], axis=2)
    counts = (COUNTS + index).astype("<u2").view(np.uint8).reshape(12, 16, 2)
    return np.concatenate([picture, counts])


def test_a_stick_in_a_raw_file(tmp_path: Path) -> None:
    path = tmp_path / "stick.raw"
    path.write_bytes(b"\x18\0\x10\0head" + b"".join(stick_frame(k).tobytes() for k in range(3)))
    layout = {"size": "16x24", "header": 8}
    info, frames = read(path, raw=layout, crop=(0, 12, 16, 12), radiometry=KELVIN, fps=9)
    assert (info.width, info.height, info.frames, info.bit_depth, info.fps) == (16, 12, 3, 16, 9)
    for index, one in enumerate(frames):
        assert np.array_equal(pixels(one), COUNTS + index) and isinstance(one, Frame)
        assert one.radiometry is not None and one.capture_ns == index * 1_000_000_000 // 9
        assert one.radiometry.kelvin(pixels(one)[0, 0]) == pytest.approx((18000 + index) / 64)
    info, frames = read(path, Band.VISIBLE, raw={**layout, "samples": "yuyv"}, crop=(0, 0, 16, 12))
    assert info.grey and np.array_equal(pixels(frames[2]), PICTURE)


@pytest.mark.parametrize("order", ["little", "big"])
def test_frame_headers_and_byte_order(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.bin"
    stored = COUNTS.astype("<u2" if order == "little" else ">u2").tobytes()
    path.write_bytes(b"F" * 5 + (b"HEAD" + stored) * 2)
    layout = {"size": "16x12", "header": 5, "frame_header": 4}
    info, frames = read(path, raw=layout, byte_order=order)
    assert info.byte_order == order and all(np.array_equal(pixels(one), COUNTS) for one in frames) and len(frames) == 2
    info, frames = read(path, raw=layout, byte_order="big" if order == "little" else "little")
    assert info.levels is not None and np.array_equal(pixels(frames[0]), COUNTS.byteswap())


def test_degrees_in_floating_point_and_signed_samples(tmp_path: Path) -> None:
    celsius = np.linspace(-40, 200, 192, dtype=np.float32).reshape(12, 16)
    for samples, stored, gain in (("float32", celsius, 1.0), ("int16", np.rint(celsius * 10).astype("<i2"), 0.1)):
        (tmp_path / "a.raw").write_bytes(stored.tobytes())
        given = {"unit": "celsius", "gain": gain}
        _, (one,) = read(tmp_path / "a.raw", raw={"size": "16x12", "samples": samples}, radiometry=given)
        assert isinstance(one, Frame) and one.radiometry is not None
        assert np.abs(one.radiometry.celsius(pixels(one)) - celsius).max() <= 0.061


def test_a_layout_that_does_not_fit_is_named_with_the_header_that_would(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"12345678" + COUNTS.tobytes() * 20)
    with pytest.raises(SourceError, match=r"7688 bytes.*384 bytes .16x12 uint16. after .* 0: set raw.header: 8"):
        read(path, raw={"size": "16x12"})
    (tmp_path / "empty.raw").touch()
    with pytest.raises(SourceError, match="has 0 bytes"):
        read(tmp_path / "empty.raw", raw={"size": "16x12"})
    with pytest.raises(UsageError, match="raw is for files"):
        source_config("/dev/video0", {"raw": {"size": "16x12"}})


def test_a_flir_sequence_has_the_times_and_the_calibration_of_its_images(tmp_path: Path) -> None:
    images = [
        fff(COUNTS + k, form, captured_ns=CAPTURED_NS + k * 33_000_000, emissivity=0.9 + k / 100)
        for k, form in enumerate(("little", "jpeg-ls", "big"))
    ]
    damaged = images[1][:20] + b"????" + images[1][24:]  # the version of the format
    path = tmp_path / "a.seq"
    path.write_bytes(images[0] + images[1] + damaged + images[2])
    info, frames = read(path)
    assert info.timed and info.fps == pytest.approx(1000 / 33) and info.codec == "flir sequence"
    good = [one for one in frames if isinstance(one, Frame)]
    assert [one.capture_ns for one in good] == [0, 33_000_000, 66_000_000]
    assert [int(pixels(one)[0, 0]) for one in good] == [18000, 18001, 18002]
    assert len({one.radiometry for one in good}) == 3 and len(frames) == 4
    _, again = read(path, fps=10)
    assert [one.capture_ns for one in again] == [0, 100_000_000, 200_000_000, 300_000_000]


def packed(path: Path, form: str = "yuyv422") -> None:
    """A video of packed samples as a V4L2 device sends them, without compression."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25, width=16, height=24, pix_fmt=form)
        for index in range(2):
            frame = av.VideoFrame(16, 24, form)
            plane = frame.planes[0]
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(24, plane.line_size)
            rows[:, :32] = stick_frame(index).reshape(24, 32)
            for packet in stream.encode(frame):
                container.mux(packet)
        container.mux(stream.encode(None))


def test_counts_in_packed_video(tmp_path: Path) -> None:
    packed(tmp_path / "a.mkv")
    keys = {"yuyv": "counts", "crop": (0, 12, 16, 12), "radiometry": KELVIN}
    info, frames = read(tmp_path / "a.mkv", **keys)
    assert (info.bit_depth, info.height, info.levels is not None) == (16, 12, True)
    assert [np.array_equal(pixels(one), COUNTS + k) for k, one in enumerate(frames)] == [True, True]
    assert [one.capture_ns for one in frames] == [0, 40_000_000]
    assert info.colour == "grey"
    _, frames = read(tmp_path / "a.mkv", Band.VISIBLE, crop=(0, 0, 16, 12))
    assert np.array_equal(pixels(frames[0]), PICTURE)


def test_counts_of_video_that_is_not_packed(tmp_path: Path) -> None:
    packed(tmp_path / "a.mkv", "uyvy422")
    with pytest.raises(SourceError, match=r"packed video .yuyv422., and this is uyvy422; remove it"):
        read(tmp_path / "a.mkv", yuyv="counts")


THERMAL: list[tuple[str, dict[str, Any], Callable[[Any], bool]]] = [
    ("SampleSEQ.seq", {}, lambda c: bool(22 < np.median(c) < 23 and c.max() < 40)),
    (
        "tc001_256x384.raw",
        {"raw": {"size": "256x384", "header": 8}, "crop": (0, 192, 256, 192), "radiometry": KELVIN},
        lambda c: bool(22 < np.median(c) < 23 and c.max() < 46),
    ),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "keys", "right"), THERMAL, ids=["seq", "stick"])
def test_files_of_cameras(data_dir: Path, name: str, keys: dict[str, Any], right: Callable[[Any], bool]) -> None:
    _, frames = read(data_dir / "thermal" / name, **keys)
    for one in frames:
        assert isinstance(one, Frame) and one.radiometry is not None
        assert right(one.radiometry.celsius(one.luma.pixels))
