"""What a finished output was made from: every file that it depends on counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepipe.workflows.batch.entries import read_entries
from fusepipe.workflows.batch.records import made_from
from fusepipe.workflows.batch.rows import ManifestRow

FILES = {
    "ir.mkv": {},
    "vis.mkv": {},
    "scene.yaml": {"registration.calibration": "scene.yaml"},
    "model.engine": {"fusion.engine": "model.engine"},
    "flat.png": {"infrared.repair": {"shading": "flat.png"}},
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_makes_another_output(name: str, tmp_path: Path) -> None:
    for file in FILES:
        (tmp_path / file).write_bytes(b"as it was")
    values = {"infrared": "ir.mkv", "visible": "vis.mkv", **FILES[name]}
    (tmp_path / "clips.csv").touch()
    (entry,) = read_entries([ManifestRow(2, values)], str(tmp_path / "clips.csv"), tmp_path / "out")
    before = made_from(entry)
    assert made_from(entry) == before
    os.utime(tmp_path / name, ns=(1, 1))
    moved = made_from(entry)
    (tmp_path / name).write_bytes(b"another one")
    os.utime(tmp_path / name, ns=(1, 1))
    assert len({before, moved, made_from(entry)}) == 3


def test_a_calibration_that_is_not_there_is_left_to_the_run(tmp_path: Path) -> None:
    for name in ("ir.mkv", "vis.mkv", "clips.csv"):
        (tmp_path / name).touch()
    values = {"infrared": "ir.mkv", "visible": "vis.mkv", "registration.calibration": "none.yaml"}
    (entry,) = read_entries([ManifestRow(2, values)], str(tmp_path / "clips.csv"), tmp_path / "out")
    assert made_from(entry) == made_from(entry)
