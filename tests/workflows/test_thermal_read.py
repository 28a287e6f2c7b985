"""``fusepipe thermal read``: known temperatures, times, boxes, and what is not in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.flir import radiometric_jpeg
from helpers.thermal_recording import HOT, celsius, make_recording

from fusepipe.cli import main


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command; gives exit code, the JSON document or the text, and standard error."""

    def call(*words: Any) -> tuple[Any, Any, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["thermal", "read", *map(str, words)])
        out, err = capsys.readouterr()
        return stopped.value.code, json.loads(out) if "--json" in words else out, err

    return call


@pytest.mark.parametrize("origin_ms", [0, 5000])
@pytest.mark.parametrize(("at", "index"), [("0", 0), ("40ms", 1), ("110ms", 3), ("0.16s", 4)])
def test_the_temperature_of_a_pixel_at_a_time(read: Any, tmp_path: Path, at: str, index: int, origin_ms: int) -> None:
    make_recording(tmp_path / "ir.mkv", origin_ms=origin_ms)
    code, document, _ = read(tmp_path / "ir.mkv", "--at", at, "--xy", *HOT, "--xy", 20, 9, "--json")
    assert code == 0 and document["time_s"] == pytest.approx(0.04 * index, abs=1e-6)
    hot, other = document["pixels"]
    assert hot["celsius"] == pytest.approx(100 + 10 * index, abs=0.1)
    assert other["celsius"] == pytest.approx(celsius(index)[9, 20], abs=0.1)
    assert document["radiometry"]["unit"] == "celsius"


def test_the_infrared_track_of_a_fused_video(read: Any, tmp_path: Path) -> None:
    make_recording(tmp_path / "fused.mkv", track=True)
    code, document, _ = read(tmp_path / "fused.mkv", "--at", "80ms", "--xy", *HOT, "--json")
    assert code == 0 and document["pixels"][0]["celsius"] == pytest.approx(120, abs=0.1)


def test_a_box_without_the_dead_pixel_and_with_a_word_about_the_saturated_one(read: Any, tmp_path: Path) -> None:
    make_recording(tmp_path / "ir.mkv")
    code, document, _ = read(tmp_path / "ir.mkv", "--box", 2, 4, 6, 4, "--json")
    (box,) = document["boxes"]
    assert (box["highest"]["x"], box["highest"]["y"]) == HOT and box["highest"]["celsius"] == pytest.approx(
        100, abs=0.1
    )
    assert (box["lowest"]["x"], box["lowest"]["celsius"]) == (2, pytest.approx(21, abs=0.1))
    assert box["mean_celsius"] == pytest.approx(celsius(0)[4:8, 2:8].mean(), abs=0.02)
    code, text, _ = read(tmp_path / "ir.mkv")
    assert code == 0 and "lowest   (0, 1): 20.0" in text and "highest  (1, 0): 382." in text
    assert "1 pixels without a temperature" in text and "1 pixels are saturated" in text


def test_counts_without_a_unit_and_with_a_given_one(read: Any, tmp_path: Path) -> None:
    make_recording(tmp_path / "ir.mkv", radiometry=None)
    code, text, _ = read(tmp_path / "ir.mkv", "--xy", *HOT)
    assert code == 0 and "(3, 5): count 9329" in text and "--radiometry UNIT GAIN OFFSET" in text
    code, document, _ = read(tmp_path / "ir.mkv", "--xy", *HOT, "--radiometry", "kelvin", "0.04", "0", "--json")
    assert document["pixels"][0]["celsius"] == pytest.approx(100, abs=0.1)


def test_a_radiometric_jpeg_and_degrees_in_floating_point(read: Any, tmp_path: Path) -> None:
    counts = np.full((12, 16), 18109, np.uint16)
    (tmp_path / "a.jpg").write_bytes(radiometric_jpeg(counts, "swapped png"))
    _, document, _ = read(tmp_path / "a.jpg", "--xy", 1, 2, "--json")
    assert document["pixels"][0] == {"x": 1, "y": 2, "count": 18109, "celsius": pytest.approx(23.843, abs=1e-3)}
    cv2.imwrite(str(tmp_path / "a.tiff"), np.full((12, 16), -7.25, np.float32))
    _, document, _ = read(tmp_path / "a.tiff", "--xy", 1, 2, "--radiometry", "celsius", 1, 0, "--json")
    assert document["pixels"][0]["celsius"] == pytest.approx(-7.25, abs=0.02)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--xy", 24, 0), 2, "the pixel (24, 0) is not in the infrared image of 24x16"),
        (("--box", 20, 10, 5, 2), 2, "the box of 5x2 at (20, 10) is not in the infrared image of 24x16"),
        (("--at", "9s"), 2, "has no frame at 9 s; the last one is at 0.160 s"),
        (("--radiometry", "kelvin", 0, 0), 2, "greater than 0"),
    ],
)
def test_what_is_not_in_the_file_is_named(
    read: Any, tmp_path: Path, words: tuple[Any, ...], code: int, message: str
) -> None:
    make_recording(tmp_path / "ir.mkv")
    stopped, _, err = read(tmp_path / "ir.mkv", *words)
    assert stopped == code and message in err and len(err.splitlines()) == 1


def test_missing_files_and_live_cameras(read: Any, tmp_path: Path) -> None:
    code, _, err = read(tmp_path / "none.mkv")
    assert code == 3 and "no such file" in err
    code, _, err = read("/dev/video7")
    assert code == 2 and "record it first" in err


@pytest.mark.data
def test_a_camera_file(read: Any, data_dir: Path) -> None:
    _, document, _ = read(data_dir / "thermal" / "SampleFLIR.jpg", "--json")
    (box,) = document["boxes"]
    assert box["lowest"]["celsius"] == pytest.approx(22.74, abs=0.1)
    assert box["highest"]["celsius"] == pytest.approx(35.25, abs=0.1)
