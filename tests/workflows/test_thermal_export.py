"""``fusepipe thermal export``: counts without loss, temperatures within a tenth of a kelvin, times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.thermal_recording import HOT, celsius, make_recording

from fusepipe.cli import main


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Exports a recording of five frames into ``out``; gives exit code, standard output and error."""
    make_recording(tmp_path / "ir.mkv")

    def call(*words: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["thermal", "export", str(tmp_path / "ir.mkv"), "-o", str(tmp_path / "out"), *words])
        return stopped.value.code, *capsys.readouterr()

    return call


def test_counts_in_tiff_are_exact_and_an_infrared_input(export: Any, tmp_path: Path) -> None:
    code, out, _ = export()
    assert code == 0 and "5 frames and frames.json" in out
    listed = json.loads((tmp_path / "out" / "frames.json").read_text())["frames"]
    assert [one["time_s"] for one in listed] == [0.0, 0.04, 0.08, 0.12, 0.16]
    assert listed[0]["radiometry"] == {"unit": "celsius", "gain": 0.04, "offset": -273.15, "planck": None}
    for index, one in enumerate(listed):
        counts = cv2.imread(str(tmp_path / "out" / one["file"]), cv2.IMREAD_UNCHANGED)
        assert counts.dtype == np.uint16 and counts[0, 0] == 0 and counts[0, 1] == 16383
        assert np.abs(counts[1:] * 0.04 - 273.15 - celsius(index)[1:]).max() <= 0.021


def test_temperatures_in_csv_and_floating_point(export: Any, tmp_path: Path) -> None:
    code, *_ = export("--format", "csv", "--unit", "celsius", "--from", "80ms", "--to", "120ms")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert code == 0 and names == ["000000.csv", "000001.csv", "frames.json"]
    table = np.loadtxt(tmp_path / "out" / "000000.csv", delimiter=",")
    assert table.shape == (16, 24) and table[HOT[1], HOT[0]] == pytest.approx(120, abs=0.1)
    code, *_ = export("--unit", "kelvin", "--overwrite")
    kelvin = cv2.imread(str(tmp_path / "out" / "000003.tiff"), cv2.IMREAD_UNCHANGED)
    assert kelvin.dtype == np.float32 and kelvin[HOT[1], HOT[0]] == pytest.approx(130 + 273.15, abs=0.1)


def test_counts_in_csv(export: Any, tmp_path: Path) -> None:
    export("--format", "csv", "--to", "0s")
    first = (tmp_path / "out" / "000000.csv").read_text().splitlines()
    assert len(first) == 16 and first[0].startswith("0,16383,7354,")


def test_what_cannot_be_exported(export: Any, tmp_path: Path) -> None:
    code, _, err = export("--from", "9s")
    assert code == 3 and "no frames in that time" in err
    (tmp_path / "out" / "mine.txt").write_text("precious")
    code, _, err = export()
    assert code == 5 and "is not empty; --overwrite" in err
    (tmp_path / "ir.mkv").unlink()
    make_recording(tmp_path / "ir.mkv", radiometry=None)
    code, _, err = export("--unit", "celsius", "--overwrite")
    assert code == 2 and "--radiometry UNIT GAIN OFFSET" in err
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"
