"""A run from an infrared recording gives the pictures of the run that recorded it, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from fusepipe.config.schema import FileSink, Rig
from fusepipe.rig.api import Pipeline

VISIBLE = "synthetic://street?size=96x64&duration=1s&fps=25"


def run(folder: Path, infrared: dict[str, Any], output: str, *more: dict[str, Any], **keys: Any) -> Any:
    body = {
        "infrared": infrared,
        "visible": {"url": VISIBLE},
        "registration": {"calibration": "synthetic://street"},
        "fusion": {"model": "mean"},
        "sinks": [{"images": str(folder / output)}, *more],
        "base_dir": folder,
        **keys,
    }
    return Pipeline(Rig.model_validate(body)).run()


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("camera", "keys"),
    [
        ("depth=16&fps=25&noise=2", {}),
        ("depth=16&fps=60&phase=7ms&drop=0.3", {}),
        ("depth=16&fps=9&jitter=4ms", {"sync": {"offset": "15ms", "reference": "visible"}}),
        ("depth=16&fps=25&phase=200ms", {}),  # it begins after the visible camera
        ("fps=25&drop=0.2", {}),
        ("depth=16&fps=30&agc", {}),  # gain control that adapts, which has to see the same images at the same times
    ],
)
def test_the_same_pictures(tmp_path: Path, camera: str, keys: dict[str, Any]) -> None:
    source: dict[str, Any] = {"url": f"synthetic://street?band=infrared&size=64x48&duration=1s&{camera}"}
    adapts = camera.endswith("&agc")
    source["url"] = source["url"].removesuffix("&agc")
    span = {"range": [6500, 8500]} if "depth" in camera and not adapts else {}
    recording = {"file": str(tmp_path / "ir.mkv"), "content": "infrared"}
    first = run(tmp_path, source | span, "first", recording, **keys)
    again = run(tmp_path, {"url": str(tmp_path / "ir.mkv"), **span}, "again", **keys)
    assert first.pairs == again.pairs and len(pictures(tmp_path / "first")) == 25
    assert pictures(tmp_path / "first") == pictures(tmp_path / "again")
    with av.open(str(tmp_path / "ir.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
    if span:
        assert again.sources["infrared"]["radiometry"]["unit"] == "celsius"


@pytest.mark.parametrize("camera", ["depth=16&fps=25&noise=2", "depth=16&fps=25&phase=200ms", "fps=25&drop=0.2"])
def test_the_same_pictures_from_the_track_of_the_fused_video(tmp_path: Path, camera: str) -> None:
    source = {"url": f"synthetic://street?band=infrared&size=64x48&duration=1s&{camera}"}
    recording = {"file": str(tmp_path / "fused.mkv"), "infrared_track": "on"}
    first = run(tmp_path, source, "first", recording)
    again = run(tmp_path, {"url": str(tmp_path / "fused.mkv")}, "again")
    assert first.pairs == again.pairs and not [text for text in again.warnings if "stream" in text]
    assert pictures(tmp_path / "first") == pictures(tmp_path / "again")


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        ({"file": "a.mp4", "infrared_track": "on"}, "needs a file that ends in .mkv"),
        ({"file": "a.mkv", "content": "infrared", "infrared_track": "on"}, "remove it"),
    ],
)
def test_an_infrared_track_of_other_files_is_refused(sink: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FileSink.model_validate(sink)


def test_a_recording_of_the_recording_is_the_same_file(tmp_path: Path) -> None:
    source = {"url": "synthetic://street?band=infrared&size=64x48&duration=200ms&depth=16&phase=20ms"}
    span = {"range": [6500, 8500]}
    for name, camera in (("one", source), ("two", {"url": str(tmp_path / "one.mkv")})):
        run(tmp_path, camera | span, name, {"file": str(tmp_path / f"{name}.mkv"), "content": "infrared"})
    one, two = (packets(tmp_path / f"{name}.mkv") for name in ("one", "two"))
    assert one == two and len(one) == 5


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]
