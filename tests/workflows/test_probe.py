"""``fusepipe probe`` on synthetic cameras whose rates and clocks are known."""

import itertools
import json
import math
import random
import time
from dataclasses import replace

import av
import numpy as np
import pytest

from fusepipe.cli import main
from fusepipe.config.schema import SourceConfig
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Stamp
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.testing import frame
from fusepipe.workflows.probe import CameraRecording, pair_report, probe
from fusepipe.workflows.probe_report import pair_lines

MS = 1_000_000


def call(*args):
    with pytest.raises(SystemExit) as caught:
        main(["probe", *args])
    return caught.value.code


CAMERA = "synthetic://street?pace=real&size=80x60&duration=60s"


def test_probe_of_a_pair(capsys):
    assert call(f"{CAMERA}&band=infrared&fps=9", f"{CAMERA}&band=visible", "--duration", "3s", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    infrared, visible = document["cameras"]
    assert (infrared["size"], infrared["colour"], visible["colour"]) == ("80x60", False, True)
    assert infrared["fps"] == pytest.approx(9, rel=0.1) and visible["fps"] == pytest.approx(25, rel=0.1)
    assert document["pair"]["tolerance_ms"] >= 55, "half the slower camera's interval at least"
    assert document["pair"]["max_wait_ms"] >= 111, "the next infrared frame may come a whole interval later"
    assert infrared["clock"]["grade"] == "media" and infrared["clock"]["skew_ppm"] is None


def test_probe_refuses_what_it_cannot_measure(capsys):
    assert call("synthetic://street?band=visible") == UsageError.exit_code
    assert "is for live cameras" in capsys.readouterr().err
    assert call("a", "b", "c") == UsageError.exit_code


def record(path, *, ahead_s, readout_s=0.0, seconds=8, size=(64, 48)):
    """A video of stripes that move in bursts; its times are ``ahead_s`` ahead, its rows are read over ``readout_s``."""
    width, height = size
    scene = random.Random(3)
    bursts = [(scene.uniform(0, seconds), scene.uniform(0.15, 0.4), scene.uniform(10, 40)) for _ in range(seconds)]
    columns = np.arange(width)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        for index in range(25 * seconds):
            image = np.empty((height, width), np.uint8)
            for row in range(height):
                time_s = index / 25 - ahead_s + readout_s * row / height
                moved = sum(far * (1 + math.tanh((time_s - at) / wide)) for at, wide, far in bursts)
                image[row] = 128 + 100 * np.sin((columns + moved) * 0.4)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_probe_of_two_recordings_gives_their_offset_and_rolling_shutter(capsys, tmp_path):
    infrared, visible = tmp_path / "ir.mkv", tmp_path / "visible.mkv"
    record(infrared, ahead_s=0.2)
    record(visible, ahead_s=0.0, readout_s=0.03)
    assert call(str(infrared), str(visible), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    offset_ms = document["motion"]["offset_ns"] / MS
    assert abs(offset_ms + 215) < 15, "the middle of the visible image is read 15 ms after its first row"
    assert 0 < document["motion"]["uncertainty_ns"] < 40 * MS
    assert document["offset_key"] == f"sync: {{offset: {offset_ms:.0f}ms}}"
    assert abs(document["shutter"]["skew_ns"] / MS - 30) < 8
    assert [one["frames"] for one in document["recordings"]] == [200, 200]
    assert call(str(infrared), str(visible), "--duration", "3s") == 0
    assert "less than 4 s in common" in capsys.readouterr().out


RIG = "schema: 1\nrigs:\n  demo:  # roof\n    infrared: {url: a.mkv}\n    visible: {url: b.mkv}\n    sinks: []\n"


def test_the_offset_is_written_into_a_rig(capsys, tmp_path):
    rigs, infrared, visible = tmp_path / "rigs.yaml", tmp_path / "ir.mkv", tmp_path / "visible.mkv"
    rigs.write_text(RIG)
    record(infrared, ahead_s=0.2)
    record(visible, ahead_s=0.0)
    both = (str(infrared), str(visible), "--write-offset", str(rigs))
    assert call(*both, "--duration", "3s") == 1
    assert "nothing was written: no clear offset was found" in capsys.readouterr().err and rigs.read_text() == RIG
    assert call(*both, "--rig-name", "roof") == UsageError.exit_code and "unknown rig 'roof'" in capsys.readouterr().err
    assert call(*both) == 0
    out = capsys.readouterr().out
    value = out.rpartition("wrote sync: {offset: ")[2].partition("}")[0]
    assert abs(float(value.removesuffix("ms")) + 200) < 15
    assert f"    sync: {{offset: {value}}}\n    infrared: {{url: a.mkv}}\n" in rigs.read_text()
    (backup,) = tmp_path.glob("rigs.yaml.*.bak")
    assert backup.read_text() == RIG and str(backup) in out
    assert call(str(infrared), "--write-offset", str(rigs)) == 2, "one camera has no offset"
    assert call(str(infrared), str(visible), "--rig-name", "demo") == 2


def test_probe_of_a_recording_and_a_camera(capsys, tmp_path):
    record(tmp_path / "ir.mkv", ahead_s=0.0, seconds=1)
    assert call(str(tmp_path / "ir.mkv"), f"{CAMERA}&band=visible") == UsageError.exit_code
    assert "two recordings together" in capsys.readouterr().err
    assert call("rtps://ann:hunter2@cam/x") == UsageError.exit_code
    err = capsys.readouterr().err
    assert "did you mean 'rtsps'" in err and "hunter2" not in err
    assert call("rtsp://ann:hunter2@127.0.0.1:1/x", "--duration", "1s") == 3
    err = capsys.readouterr().err
    assert "connection refused" in err and "hunter2" not in err and "the run waits" not in err


class Camera:
    """A live camera of 50 frames a second; ``sends`` its wall clock, by which frames take 40 ms, or does not."""

    label, clock, failures, notes = "camera", "wall", {}, ()

    def __init__(self, band, *, sends):
        self.band, self._sends = band, sends

    def open(self):
        return SourceInfo(16, 12, 50.0, None, True, 8, "raw")

    def frames(self, stop):
        for index in itertools.count():
            if stop.wait(0.02):
                return
            now_ns = time.monotonic_ns()
            shot = frame(self.band, index, now_ns, arrival_ns=now_ns)
            yield replace(shot, stamp=Stamp(sender_ns=now_ns - 40 * MS if self._sends else None))

    def close(self):
        """There is nothing to close."""


@pytest.mark.parametrize("both", [True, False])
def test_a_camera_that_sends_its_time_is_measured_by_it_only_beside_another_that_does(monkeypatch, both):
    """As in a run: an offset that was measured between two kinds of times would not hold for it."""
    monkeypatch.setattr(
        "fusepipe.workflows.probe.make_source", lambda _, band, name: Camera(band, sends=both or band is Band.INFRARED)
    )
    report = probe([SourceConfig(url="rtsp://a/b")] * 2, 3.0)
    assert {camera.clock["grade"] for camera in report.cameras} == {"sender" if both else "media"}
    assert report.cameras[0].age_ms == pytest.approx(40 if both else 0, abs=5)


@pytest.mark.parametrize(("skew_ppm", "slips"), [(400.0, True), (3.0, False)])
def test_a_slip_is_named_only_where_the_clocks_differ_by_more_than_is_uncertain(skew_ppm, slips):
    """Two cameras of 25 frames a second for a minute, the infrared one's clock by so much faster."""
    seen = []
    for band, ppm in ((Band.INFRARED, skew_ppm), (Band.VISIBLE, 0.0)):
        one, rng = CameraRecording(band, None), random.Random(1)
        for index in range(1500):
            true_ns = index * 40 * MS
            media_ns = round(true_ns * (1 + ppm * 1e-6)) + round(rng.gauss(0, MS))
            arrival_ns = true_ns + 5 * MS + round(rng.expovariate(1 / (2 * MS)))
            one.frames.append(one.clock.stamp(frame(band, index, media_ns, arrival_ns=arrival_ns)))
        seen.append(one)
    pair = pair_report(*seen)
    assert abs(pair.relative_skew_ppm - skew_ppm) <= pair.relative_skew_error_ppm
    assert (pair.slip_s is not None) == slips
    assert ("one frame of slip every 1" in "".join(pair_lines(pair))) == slips
    assert (
        f"set sync: {{tolerance: {pair.tolerance_ms:.0f}ms, max_wait: {pair.max_wait_ms:.0f}ms}}" in pair_lines(pair)[1]
    )
