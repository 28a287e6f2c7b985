"""The synthetic source as a source: contract, determinism, noise, freezes, and the live pace."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, Frame
from fusepipe.pipeline.sources.base import Overflow
from fusepipe.pipeline.sources.synthetic.render import Renderer
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource

SMALL = "synthetic://street?size=64x48&fps=25&duration=2s"


@contextmanager
def opened(url: str, band: Band = Band.INFRARED) -> Iterator[SyntheticSource]:
    source = SyntheticSource(url, band, camera="cam", stream_id="rig")
    source.open()
    try:
        yield source
    finally:
        source.close()


def read(url: str, band: Band = Band.INFRARED, count: int | None = None) -> list[Frame]:
    with opened(url, band) as source:
        return list(itertools.islice(source.frames(threading.Event()), count))


def digest(frames: list[Frame]) -> str:
    total = hashlib.sha256()
    for frame in frames:
        total.update(f"{frame.index} {frame.capture_ns} {frame.pts}".encode())
        for plane in frame.planes:
            total.update(np.ascontiguousarray(plane.pixels).tobytes())
    return total.hexdigest()


def test_open_returns_the_properties() -> None:
    source = SyntheticSource(f"{SMALL}&depth=16", Band.INFRARED)
    assert (source.band, source.clock, source.overflow) == (Band.INFRARED, "media", Overflow.BLOCK)
    assert source.label == f"{SMALL}&depth=16"
    info = source.open()
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, 25.0, 50)
    assert (info.grey, info.bit_depth, info.codec) == (True, 16, "synthetic")
    live = SyntheticSource(f"{SMALL}&pace=real", Band.VISIBLE)
    assert (live.clock, live.overflow) == ("wall", Overflow.DROP_OLDEST)
    assert live.open().frames is None
    assert SyntheticSource(f"{SMALL}&drop=0.1", Band.VISIBLE).open().frames is None


def test_frames_carry_their_time_their_names_and_their_planes() -> None:
    visible, infrared = read(SMALL, Band.VISIBLE), read(f"{SMALL}&depth=16")
    for frames in (visible, infrared):
        assert [frame.index for frame in frames] == list(range(50))
        for frame in frames:
            assert frame.capture_ns == frame.index * 40_000_000
            assert frame.pts * frame.time_base * 1_000_000_000 == frame.capture_ns
            assert (frame.camera, frame.stream_id, frame.name) == ("cam", "rig", "")
            assert 0 < frame.arrival_ns <= time.monotonic_ns()
            assert not frame.luma.pixels.flags.writeable
    assert [plane.pixels.shape for plane in visible[0].planes] == [(48, 64), (24, 32), (24, 32)]
    assert infrared[0].luma.pixels.dtype == np.uint16 and infrared[0].luma.bit_depth == 16
    assert digest(visible[:1]) != digest(visible[-1:])


def test_the_order_of_calls_is_checked_and_close_may_be_repeated() -> None:
    source = SyntheticSource(SMALL, Band.VISIBLE)
    with pytest.raises(SourceError, match=r"before open"):
        next(source.frames(threading.Event()))
    source.close()
    source.close()
    with pytest.raises(UsageError, match="band=visible"):
        SyntheticSource(f"{SMALL}&band=visible", Band.INFRARED)


@pytest.mark.parametrize("band", list(Band))
def test_the_same_url_gives_the_same_bytes_in_any_process(band: Band) -> None:
    url = f"{SMALL}&noise=3&jitter=2ms&drop=0.1&repeat=0.1&light=night&seed=5"
    here = digest(read(url, band))
    script = (
        "import sys, test_synthetic_source as t; from fusepipe.core.frames import Band;"
        "print(t.digest(t.read(sys.argv[1], Band(sys.argv[2]))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script, url, band.value]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == here
    assert digest(read(url.replace("seed=5", "seed=6"), band)) != here


@pytest.mark.parametrize("band", list(Band))
def test_an_image_does_not_depend_on_those_rendered_before(band: Band) -> None:
    with opened(f"{SMALL}&noise=2&light=night", band) as source:
        frames = list(source.frames(threading.Event()))
        renderer = Renderer(source.options, source.scene)
        for index in (49, 7, 30):
            planes = renderer.render(source.truth(index).image_ns, index)
            for plane, expected in zip(planes, frames[index].planes, strict=True):
                assert np.array_equal(plane, expected.pixels)


def test_noise_has_the_stated_spread_and_differs_from_frame_to_frame() -> None:
    url = "synthetic://street?size=320x240&fps=25&duration=1s"
    for query, level in (("", 1.0), ("&depth=16", 25 * 42 / 255)):
        clean, noisy = read(url + query, count=2), read(f"{url}{query}&noise=4", count=2)
        errors = [n.luma.pixels.astype(float) - c.luma.pixels for n, c in zip(noisy, clean, strict=True)]
        inside = clean[0].luma.pixels[100:140], errors[0][100:140]
        assert inside[1].std() / level == pytest.approx(4, rel=0.05)
        assert abs(inside[1].mean()) / level < 0.2
        correlation = np.corrcoef(errors[0][100:140].ravel(), errors[1][100:140].ravel())[0, 1]
        assert abs(correlation) < 0.1


def test_a_flat_field_freeze_repeats_the_bytes_and_is_in_the_truth() -> None:
    url = f"{SMALL}&ffc=1s,400ms&noise=2"
    with opened(url) as source:
        frames = list(source.frames(threading.Event()))
        assert [i for i in range(50) if source.truth(i).frozen] == list(range(25, 35))
        for index in range(25, 35):
            assert np.array_equal(frames[index].luma.pixels, frames[24].luma.pixels)
            assert frames[index].capture_ns == index * 40_000_000
            assert source.truth(index).image_ns == 24 * 40_000_000
        assert not np.array_equal(frames[35].luma.pixels, frames[24].luma.pixels)


def test_the_truth_of_every_frame_is_known() -> None:
    with opened(f"{SMALL}&skew_ppm=900&offset=5ms&jitter=3ms&drop=0.3&repeat=0.2") as source:
        for frame in source.frames(threading.Event()):
            truth = source.truth(frame.index)
            assert truth.capture_ns == frame.capture_ns
            assert abs(frame.capture_ns - truth.true_ns - 5_000_000) < 20_000_000
            assert truth.true_ns % 40_000_000 == 0
            assert truth.repeated == (truth.image_ns != truth.true_ns)
        with pytest.raises(IndexError):
            source.truth(50)


def test_a_recording_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def refuse(_: float | None = None) -> bool:
        raise AssertionError("a recording does not wait")

    monkeypatch.setattr(stop, "wait", refuse)
    monkeypatch.setattr(time, "sleep", refuse)
    with opened("synthetic://street?size=64x48&fps=0.2&duration=5min", Band.VISIBLE) as source:
        assert len(list(source.frames(stop))) == 60


def test_a_recording_ends_when_it_is_stopped() -> None:
    stop = threading.Event()
    with opened(SMALL) as source:
        frames = source.frames(stop)
        next(frames)
        stop.set()
        assert list(frames) == []


def test_a_live_camera_keeps_the_hosts_time() -> None:
    with opened("synthetic://street?size=32x32&fps=50&duration=600ms&pace=real") as source:
        begun = time.monotonic_ns()
        frames = list(source.frames(threading.Event()))
        took_s = (time.monotonic_ns() - begun) * 1e-9
        assert 0.55 < took_s < 5
        assert [frame.index for frame in frames] == list(range(len(frames)))
        for frame in frames:
            assert begun <= frame.capture_ns <= frame.arrival_ns
            assert frame.capture_ns == source.truth(frame.index).true_ns
            assert frame.capture_ns % 20_000_000 == 0  # one grid for every camera of this host
        assert frames[0].pts == 0


def test_a_live_camera_skips_frames_that_are_late() -> None:
    with opened("synthetic://street?size=32x32&fps=50&duration=2s&pace=real") as source:
        frames = source.frames(threading.Event())
        first = next(frames)
        time.sleep(0.3)
        second = next(frames)
        assert second.index == first.index + 1
        assert second.capture_ns - first.capture_ns >= 200_000_000
        with pytest.raises(IndexError, match="frames 0 to 1"):
            source.truth(2)


def test_a_live_camera_stops_immediately() -> None:
    stop = threading.Event()
    seen: list[Frame] = []
    with opened("synthetic://street?size=32x32&fps=0.1&duration=1h&pace=real") as source:

        def work() -> None:
            seen.extend(source.frames(stop))

        reader = threading.Thread(target=work, name="reader")
        reader.start()
        time.sleep(0.15)
        stop.set()
        begun = time.monotonic()
        reader.join(5)
        assert not reader.is_alive()
        assert time.monotonic() - begun < 0.3
    assert len(seen) <= 1
