"""What ``benchmarks/study_registration`` registers, and the tables of what it finds."""

from __future__ import annotations

import argparse
import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import registration_inputs

    return registration_inputs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve pairs of one set: dots on grey, the same in both bands."""
    for band in ("ir", "vis"):
        (tmp_path / "roadscene" / band).mkdir(parents=True)
    for number in range(12):
        image = np.full((120, 160), 60, np.uint8)
        image[40 + number : 44 + number, 70:74] = 250
        for band in ("ir", "vis"):
            cv2.imwrite(str(tmp_path / "roadscene" / band / f"{number:02}.png"), image)
    (tmp_path / "misaligned" / "roadscene_raw").mkdir(parents=True)
    (tmp_path / "misaligned" / "roadscene_raw" / "reference.csv").write_text("name\n")
    return tmp_path


def test_a_warped_pair_comes_with_its_map(inputs: ModuleType, data: Path) -> None:
    pairs = inputs.registered(data)
    assert [pair.name for pair in pairs[:2]] == ["roadscene/00", "roadscene/01"] and len(pairs) == 12
    found = 0
    for pair in pairs:
        known = inputs.warped(pair, 0)
        again = inputs.warped(pair, 0)
        assert np.array_equal(known.infrared, again.infrared) and np.array_equal(known.matrix, again.matrix)
        if known.infrared.max() < 120 or known.visible.max() < 240:  # poor, or outside the view
            continue
        centres = []
        for image in (known.infrared, known.visible):
            bright = np.clip(image.astype(np.float64) - 0.5 * (image.max() + np.median(image)), 0, None)
            y, x = np.indices(image.shape)
            centres.append(np.array([(x * bright).sum(), (y * bright).sum()]) / bright.sum())
        there = known.to_visible(centres[0][None])[0]
        assert there == pytest.approx(centres[1], abs=1.0), known.name
        found += 1
    assert found >= 4


def test_mismatched_pairs_are_different_scenes_and_the_same_each_time(inputs: ModuleType, data: Path) -> None:
    pairs = inputs.registered(data)
    drawn = [name for name, _ in inputs.mismatched(data, 8, [])]
    assert drawn == [name for name, _ in inputs.mismatched(data, 8, [])] and len(set(drawn)) == 8
    assert all(
        one.partition(":")[0] != other.partition(":")[0] for one, _, other in (d.partition(" x ") for d in drawn)
    )
    for name, images in inputs.mismatched(data, 8, []):
        infrared, visible = images()
        number = int(name.partition(" x ")[0].partition("/")[2].partition(":")[0])
        if not name.endswith(":0"):
            assert infrared.shape == visible.shape == (120, 160)
            assert infrared[40 + number, 72] > 240 and visible[40 + number : 44 + number, 70:74].mean() < 240
    assert inputs.same_place(
        inputs.Registered("kaist/1", Path("1.png"), Path()), inputs.Registered("kaist/2", Path("2.png"), Path())
    )
    assert not inputs.same_place(pairs[0], pairs[1])
    crossing, other, elsewhere = (
        inputs.Registered(f"m3fd/{stem}", Path(f"{stem}.png"), Path()) for stem in ("00111", "00118", "01587")
    )
    assert inputs.same_place(crossing, other) and not inputs.same_place(other, elsewhere)


def row(bound_px: float, error_px: float, refusal: str = "") -> dict[str, Any]:
    return {
        "name": f"set/{bound_px}",
        "refusal": refusal,
        "visible_width": 1280,
        "cpu_s": 1.0,
        "errors_px": [error_px] * 5,
        "error_bound": {"centre_px": bound_px, "corners_px": 2 * bound_px},
    }


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import registration_tables

    return registration_tables


def test_the_tables(tables: ModuleType) -> None:
    rank_correlation, report = tables.rank_correlation, tables.report
    assert rank_correlation(np.array([1.0, 2, 3, 5]), np.array([2.0, 4, 9, 10])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    known = [row(float(n), n / 2 if n < 9 else 24.0) for n in range(1, 11)] + [row(1.0, 4.0, "refused")]
    text = report([*known, {"name": "a x b", "refusal": "no", "evidence": 7.25, "agreeing": 20}])
    # errors are halved to those of an image 640 wide: 24 px are 12 of 640
    assert "| 11 | 10 | 8 | 8 | 1 | 1.0 s |" in text
    assert text.count("accepted, off by 12.0 px of 640") == 2
    assert "| centre | 8 of 10 (80%) |" in text and "| corners | 8 of 10 (80%) |" in text
    assert "0 of 1 pairs that do not belong together are accepted; highest evidence 7.2, at most 20" in text


def test_the_parts_of_a_study_are_all_of_it(
    inputs: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = SourceFileLoader("study_registration", str(FOLDER / "study_registration"))
    study = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(study)
    names = []
    for part in ("1/2", "2/2"):
        output = tmp_path / f"{part[0]}.jsonl"
        monkeypatch.setattr(
            "sys.argv", ["study_registration", "mismatched", str(data), str(output), "--most", "3", "--part", part]
        )
        threads = cv2.getNumThreads()
        try:
            assert study.main() == 0 and study.main() == 0  # the second time there is nothing left to do
        finally:
            cv2.setNumThreads(threads)
        names.append([json.loads(line)["name"] for line in output.read_text().splitlines()])
    assert [len(some) for some in names] == [2, 1]
    assert [names[0][0], names[1][0], names[0][1]] == [name for name, _ in inputs.mismatched(data, 3, [])]
    with pytest.raises(argparse.ArgumentTypeError, match="'3/2' is no part"):
        study.part("3/2")


def test_a_narrow_view_is_a_part_with_its_map(inputs: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "NARROW_SETS", ("roadscene",))
    parts = list(inputs.narrow(data))
    assert len(parts) == 12 * len(inputs.NARROW_RATIOS)
    found = 0
    for name, make in parts:
        known = make()
        ratio = float(name.rpartition(":")[2])
        assert known.infrared.shape[1] == pytest.approx(160 * ratio, abs=1) and known.visible.shape == (120, 160)
        if known.infrared.max() == 250:
            bright = np.argwhere(known.infrared > 200)[0][::-1].astype(np.float64)
            x, y = np.rint(known.to_visible(bright[None])[0]).astype(int)
            assert known.visible[y, x] > 200
            found += 1
    assert found >= 10


def test_narrow_views_are_counted_by_width(tables: ModuleType) -> None:
    rows = [
        row(3.0, 4.0) | {"ratio": 0.36},
        row(3.0, 80.0) | {"ratio": 0.36},
        row(3.0, 80.0, "refused") | {"ratio": 0.36},
        row(3.0, 8.0) | {"ratio": 0.55},
    ]
    text = tables.report(rows)
    assert "| 0.36 | 1 of 3 (2.0 to 2.0 px of 640) | 1 | 1 |" in text
    assert "| 0.55 | 1 of 1 (4.0 to 4.0 px of 640) | 0 | 0 |" in text
    assert "- accepted, off by 40.0 px of 640: set/3.0" in text and "known map" not in text


def test_the_plot_has_a_point_for_each_bound(tables: ModuleType) -> None:
    image = tables.plot([row(3.0, 2.0), row(3.0, 8.0), row(3.0, 8.0, "refused")])
    circles = [one for one in ElementTree.fromstring(image).iter() if one.tag.endswith("circle")]
    assert len(circles) == 4 and len({one.get("fill") for one in circles}) == 2
    # the same bound, and the greater error is higher
    below, above = circles[:2]
    assert below.get("cx") == above.get("cx") and float(above.get("cy", "nan")) < float(below.get("cy", "nan"))
    assert image.count("50% of 2 errors below the bound") == 2
