"""Image folders paired by time: with the times of their names, or by index, where the skew is not known."""

import json

import cv2
import numpy as np
import pytest

from fusepipe.cli import main

RIG = """
schema: 1
rigs:
  r:
    infrared: {{url: ir{fps}}}
    visible: {{url: vis{fps}}}
    sync: {{pair_by: {pair_by}}}
    fusion: {{model: mean}}
    sinks: [{{file: o.mkv, sidecar: on}}]
"""


@pytest.fixture
def run(tmp_path, capsys):
    """Runs two folders with images of these stems; gives the report and the lines of the sidecar."""

    def call(infrared, visible, pair_by="time", fps="", summary=False):
        for folder, stems in (("ir", infrared), ("vis", visible)):
            (tmp_path / folder).mkdir()
            for stem in stems:
                cv2.imwrite(str(tmp_path / folder / f"{stem}.png"), np.full((16, 16), 90, np.uint8))
        (tmp_path / "rigs.yaml").write_text(RIG.format(pair_by=pair_by, fps=fps))
        with pytest.raises(SystemExit) as stopped:
            main(["run", "--rig", str(tmp_path / "rigs.yaml"), "-v" if summary else "--json"])
        captured = capsys.readouterr()
        assert stopped.value.code == 0, captured.err
        lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        return captured.out if summary else json.loads(captured.out)["rigs"][0], lines

    return call


@pytest.mark.parametrize("pair_by", ["time", "name"])
def test_without_times_the_skew_is_not_known(run, pair_by):
    report, lines = run("abc", "abc", pair_by)
    assert report["pairs"] == {"fused": 3} and report["skew_ms"] is None
    assert [line["skew_ms"] for line in lines] == [None] * 3


def test_the_summary_says_that_the_skew_is_not_known(run):
    summary, _ = run("abc", "abc", summary=True)
    assert "skew not known" in summary and "skew mean" not in summary


@pytest.mark.parametrize("pair_by", ["time", "auto"])
def test_times_of_names_pair_what_was_captured_together(run, pair_by):
    infrared = [f"IR_20240501_12301{n}.010" for n in (5, 6, 8)]
    visible = [f"VIS_2024-05-01_12-30-1{n}.000" for n in (4, 5, 6, 7, 8)]
    report, lines = run(infrared, visible, pair_by)
    assert report["pairs"]["fused"] == 3 and report["skew_ms"]["p50"] == pytest.approx(10, rel=0.03)
    assert [line["skew_ms"] for line in lines if line["state"] == "fused"] == [10.0] * 3
    pairs = {line["visible"]["name"][-6:]: line["infrared"]["name"][-6:] for line in lines if line["state"] == "fused"}
    assert pairs == {"15.000": "15.010", "16.000": "16.010", "18.000": "18.010"}


def test_times_of_one_folder_only_are_not_compared_with_an_index(run):
    report, _ = run([f"20240501_12301{n}" for n in range(3)], "abc")
    assert report["pairs"] == {"fused": 3} and report["skew_ms"] is None


def test_a_frame_rate_replaces_the_times_of_names(run):
    names = [f"20240501_12301{n}" for n in range(3)]
    report, lines = run(names, names, fps=", fps: 10")
    assert report["skew_ms"] is None and [line["pts_s"] for line in lines] == pytest.approx([0, 0.1, 0.2], abs=0.002)
