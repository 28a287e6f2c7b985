"""``fusepipe calibrate check``: the verdict is right, the page needs nothing else, the run tells of drift."""

from __future__ import annotations

import csv
import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fusepipe.calibration.file.model import Made, make_calibration
from fusepipe.calibration.file.named_planes import with_plane
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.cli import cli
from fusepipe.config.schema import Rig
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix
from fusepipe.pipeline.testing import CollectSink
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.report.summary import summary_lines
from fusepipe.workflows.calibrate_check.check import check_calibration
from tests.helpers.two_planes import INFRARED_SIZE, NEAR_M, SIZE, TRUE_MATRIX, TwoPlanes, parallax_px


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ir/``, ``vis/``, and calibrations that are true, a little off and far off."""
    place = tmp_path_factory.mktemp("check")
    for name, band, size in (("ir", Band.INFRARED, "320x240"), ("vis", Band.VISIBLE, "640x480")):
        (place / name).mkdir()
        source = SyntheticSource(f"synthetic://street?size={size}&duration=2s&fps=1", band)
        source.open()
        for frame in source.frames(threading.Event()):
            assert cv2.imwrite(str(place / name / f"{frame.index}.png"), frame.luma.pixels)
        source.close()
    for name, shift in (("true", 0.0), ("off", 4.0), ("wrong", 60.0)):
        matrix = np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1.0]]) @ true_matrix((320, 240), (640, 480))
        made = Made(by="hand", note="<script>alert(1)</script>")
        save_calibration(make_calibration("affine", (320, 240), (640, 480), matrix, made=made), place / f"{name}.yaml")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("name", "verdicts"), [("true", {"good"}), ("off", {"fair", "bad"}), ("wrong", {"bad"})])
def test_the_verdict_is_right(folder: Path, name: str, verdicts: set[str]) -> None:
    arguments = [str(folder / f"{name}.yaml"), str(folder / "ir"), str(folder / "vis"), "--json"]
    ran = CliRunner().invoke(cli, ["calibrate", "check", *arguments])
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert report["verdict"] in verdicts, report["text"]
    if name == "off":
        assert report["shift_px"][0] == pytest.approx(-4.0, abs=1.0)
    assert set(report["pairs"]) == {"0", "1"}


@pytest.mark.slow
def test_the_page_needs_nothing_else(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    arguments = [str(folder / "true.yaml"), str(folder / "ir"), str(folder / "vis"), "-o", str(page)]
    ran = CliRunner().invoke(cli, ["calibrate", "check", *arguments])
    assert ran.exit_code == 0, ran.output
    text = page.read_text()
    assert "<script" not in text and "alert(1)" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("data:image/webp") == 2 * 5
    assert "Error by region" in text and "Blink" in text and "Good." in text


@pytest.mark.slow
def test_a_run_says_that_the_bracket_moved(folder: Path) -> None:
    rig = Rig.model_validate(
        {
            "name": "knocked",
            "infrared": {"url": "synthetic://street?band=infrared&size=320x240&duration=3s&fps=4"},
            "visible": {"url": "synthetic://street?band=visible&size=640x480&duration=3s&fps=4"},
            "registration": {"calibration": str(folder / "off.yaml"), "drift": "watch"},
        }
    )
    report = Pipeline(rig, sinks=[CollectSink()], fuser=load_fuser("mean")).run()
    assert report.drift is not None
    assert report.drift["state"] == "suspect" and report.drift["checks"] == 6
    assert report.drift["offset_px"] == pytest.approx(4.0, abs=1.0)
    assert any("drift: suspect" in line for line in summary_lines(report))


@pytest.mark.slow
def test_matched_points_are_written(folder: Path, tmp_path: Path) -> None:
    inputs = [str(folder / "off.yaml"), str(folder / "ir"), str(folder / "vis")]
    for name in ("points.csv", "points.json"):
        ran = CliRunner().invoke(cli, ["calibrate", "check", *inputs, "--points", str(tmp_path / name)])
        assert ran.exit_code == 0 and f"{name}: " in ran.stdout, ran.output
    with (tmp_path / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {key: value if key == "pair" else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    assert rows == json.loads((tmp_path / "points.json").read_text()) and {row["pair"] for row in rows} == {"0", "1"}
    infrared, visible, residual = (
        np.array([[float(row[f"{kind}_{axis}"]) for axis in "xy"] for row in rows])
        for kind in ("infrared", "visible", "residual")
    )
    shifted = np.array([[1, 0, 4.0], [0, 1, 0], [0, 0, 1.0]]) @ true_matrix((320, 240), (640, 480))
    there = cv2.perspectiveTransform(infrared[None], shifted)[0]
    assert there + residual == pytest.approx(visible, abs=0.02)
    assert np.median(residual[:, 0]) == pytest.approx(-4.0, abs=1.0), "the calibration is 4 px too far right"
    ran = CliRunner().invoke(cli, ["calibrate", "check", *inputs, "--points", str(tmp_path / "points.txt")])
    assert isinstance(ran.exception, UsageError) and ".csv or .json" in str(ran.exception)


def test_each_plane_of_the_file_is_reported(tmp_path: Path) -> None:
    rig = TwoPlanes()
    assert cv2.imwrite(str(tmp_path / "ir.png"), rig.infrared(0))
    assert cv2.imwrite(str(tmp_path / "vis.png"), rig.visible(0))
    nearer = np.array([[1.0, 0.0, -parallax_px(NEAR_M)], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ TRUE_MATRIX
    far = make_calibration("affine", INFRARED_SIZE, SIZE, TRUE_MATRIX).model_copy(update={"plane": "far"})
    save_calibration(with_plane(far, "near", nearer, NEAR_M), tmp_path / "roof.yaml")
    inputs = ["calibrate", "check", *(str(tmp_path / name) for name in ("roof.yaml", "ir.png", "vis.png"))]
    ran = CliRunner().invoke(cli, [*inputs, "--json"])
    assert ran.exit_code == 0, ran.output
    own = json.loads(ran.stdout)
    assert own["planes"]["far"]["agreeing"] > 2 * own["planes"]["near"]["agreeing"] > 20
    assert own["agreeing"] == own["planes"]["far"]["agreeing"]
    ran = CliRunner().invoke(cli, [*inputs, "--plane", "near"])
    assert re.search(r"^plane near: \d+ of \d+ blocks agree", ran.stdout, re.MULTILINE), ran.output
    near = check_calibration(
        *(tmp_path / "roof.yaml", str(tmp_path / "ir.png"), str(tmp_path / "vis.png")), plane="near"
    )
    assert near.overall.quality.agreeing == own["planes"]["near"]["agreeing"]
