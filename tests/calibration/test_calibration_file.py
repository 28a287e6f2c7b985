"""Calibration files: read back as written, errors with file, line, key and fix, and the guide's example."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np
import pytest

from fusepipe.calibration.file.model import Calibration, Made, make_calibration
from fusepipe.calibration.file.storage import calibration_text, load_calibration, save_calibration
from fusepipe.calibration.warp import build_warp
from fusepipe.core.errors import ConfigError, OutputExistsError, SinkError, UsageError

GUIDE = Path(__file__).parents[2] / "docs" / "calibration-files.md"

GOOD = """\
fusepipe_calibration: 1
kind: affine
infrared: {size: [320, 240]}
visible: {size: [640, 480]}
matrix:
- [1.9, 0.0, 12.5]
- [0.0, 1.9, 8.0]
"""

TILT = [[1.8, 0.06, 11.0], [-0.04, 1.9, 7.0], [2e-4, -1e-4, 1.0]]


def write(folder: Path, text: str) -> Path:
    path = folder / "roof.calibration.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_an_affine_calibration(tmp_path: Path) -> None:
    calibration = load_calibration(write(tmp_path, GOOD))
    assert calibration.kind == "affine"
    assert calibration.infrared.size == (320, 240)
    assert np.array_equal(calibration.matrix3(), [[1.9, 0, 12.5], [0, 1.9, 8], [0, 0, 1]])


@pytest.mark.parametrize(
    "calibration",
    [
        make_calibration("identity", (320, 240), (640, 480)),
        make_calibration("affine", (320, 240), (640, 480), [[1 / 3, 1e-17, -0.0], [1e-5, 2 / 3, 1e3], [0, 0, 1]]),
        make_calibration("homography", (320, 240), (640, 480), np.array(TILT, np.float64) * 7),
        make_calibration(
            "homography",
            (320, 240),
            (640, 480),
            TILT,
            made=Made(by="fusepipe: calibrate", date=datetime.date(2026, 5, 1), note="off\n- #1 \"é\" 'x': y " * 9),
            quality={"reprojection_rms_px": 0.25, "pairs": 12, "method": "1.0", "board": "no"},
        ),
    ],
    ids=["identity", "affine", "homography", "full"],
)
def test_what_is_saved_is_read_back(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    save_calibration(calibration, path)
    again = load_calibration(path)
    assert again == calibration
    assert np.array_equal(again.matrix3(), calibration.matrix3())
    assert [p.name for p in tmp_path.iterdir()] == ["rig.yaml"]


def test_saved_files_are_readable(tmp_path: Path) -> None:
    text = calibration_text(make_calibration("homography", (320, 240), (640, 480), TILT))
    assert text.splitlines() == [
        "fusepipe_calibration: 1",
        "kind: homography",
        "infrared: {size: [320, 240]}",
        "visible: {size: [640, 480]}",
        "# infrared pixel (x, y, 1) -> visible pixel",
        "matrix:",
        "- [1.8, 0.06, 11.0]",
        "- [-0.04, 1.9, 7.0]",
        "- [0.0002, -0.0001, 1.0]",
    ]


def test_saving_overwrites_only_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "precious")
    calibration = make_calibration("identity", (320, 240), (640, 480))
    with pytest.raises(OutputExistsError, match="already exists"):
        save_calibration(calibration, path)
    assert path.read_text() == "precious"
    save_calibration(calibration, path, overwrite=True)
    assert load_calibration(path) == calibration
    with pytest.raises(SinkError, match=r"cannot be written: No such file"):
        save_calibration(calibration, tmp_path / "absent" / "c.yaml")
    with pytest.raises(SinkError, match="cannot be written"):
        save_calibration(calibration, tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("calibration: 1", "calibration: 2", 1, "fusepipe_calibration: this fusepipe reads version 1 .*got 2"),
        ("calibration: 1", "calibration: yes", 1, "fusepipe_calibration: this fusepipe reads version 1"),
        ("fusepipe_calibration: 1\n", "", 1, "fusepipe_calibration: is missing"),
        (
            "kind: affine",
            "kind: affin",
            2,
            r"kind: should be 'identity', .*'homography', 'homography\+lens' or 'stereo'.*did you mean 'affine'",
        ),
        ("kind: affine", "kinds: affine", 2, r"kinds: unknown key \(did you mean 'kind'\?\)"),
        ("kind: affine", "kind: homography", 5, "matrix: should be 3 rows of 3 numbers for kind homography"),
        ("kind: affine", "kind: identity", 5, "matrix: kind identity has no matrix; remove it"),
        ("infrared: {size", "infrared: {sise", 3, r"infrared.sise: unknown key \(did you mean 'size'\?\)"),
        ("[320, 240]", "[320, 240.5]", 3, r"infrared.size\[1\]: .*\(got 240.5\)"),
        ("[320, 240]", "[320, 0]", 3, r"infrared.size\[1\]: .*greater than or equal to 1.*\(got 0\)"),
        ("[320, 240]", "[320]", 3, r"infrared.size: should be \[width, height\] in pixels"),
        ("[320, 240]", "320x240", 3, r"infrared.size: should be \[width, height\] in pixels \(got '320x240'\)"),
        ("[640, 480]", "['640', 480]", 4, r"visible.size\[0\]: should be a whole number \(got '640'\)"),
        ("1.9, 0.0, 12.5", "1.9, 0.0", 5, "matrix: should be 2 rows of 3 numbers for kind affine"),
        ("1.9, 0.0, 12.5", "1.9, 0.0, a", 6, r"matrix\[0\]\[2\]: should be a number \(got 'a'\)"),
        ("1.9, 0.0, 12.5", "1.9, 0.0, .nan", 6, r"matrix\[0\]\[2\]: should be a finite number"),
        ("1.9, 0.0, 12.5", "0.0, 1.9, 12.5", 5, "matrix: the calibration matrix is singular"),
        ("matrix:\n- [1.9, 0.0, 12.5]\n- [0.0, 1.9, 8.0]", "quality: {}", 1, "matrix: is missing"),
        ("visible:", "made: {by: me, date: soon}\nvisible:", 4, r"made.date: .*\(got 'soon'\)"),
        ("visible:", "visible: [1\nx:", 5, "bracket or brace"),
    ],
)
def test_errors_name_file_line_key_and_fix(old: str, new: str, line: int, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_calibration(path)
    lines = str(error.value).splitlines()
    assert any(re.match(f"{re.escape(str(path))}:{line}: .*{message}", text) for text in lines), lines
    assert "http" not in str(error.value), "no links of the validator's in messages"


def test_missing_large_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; make one with: fusepipe calibrate"):
        load_calibration(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_calibration(write(tmp_path, "#" * (1 << 20) + "\n" + GOOD))
    with pytest.raises(ConfigError, match="is empty"):
        load_calibration(write(tmp_path, ""))
    with pytest.raises(ConfigError):
        load_calibration(write(tmp_path, "just text"))


def test_calibrations_are_immutable() -> None:
    calibration = make_calibration("affine", (320, 240), (640, 480), TILT[:2])
    with pytest.raises(ValueError, match="frozen"):
        calibration.kind = "homography"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "matrix", "message"),
    [
        ("affine", TILT, "matrix: .*should be 2 rows of 3 numbers for kind affine"),
        ("affine", None, "matrix: is missing"),
        ("homography", np.ones((3, 3)), "matrix: .*singular"),
        ("rigid", None, "kind: "),
    ],
)
def test_make_calibration_refuses_what_a_file_could_not_hold(kind: str, matrix: object, message: str) -> None:
    with pytest.raises(UsageError, match=f"invalid calibration: {message}"):
        make_calibration(kind, (320, 240), (640, 480), matrix)  # type: ignore[arg-type]


def test_the_example_of_the_guide_works(tmp_path: Path) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(fusepipe_calibration.*?)```", guide, flags=re.DOTALL)
    assert len(examples) == 1
    path = write(tmp_path, examples[0])
    calibration = load_calibration(path)
    assert calibration.made is not None and calibration.quality is not None
    warp = build_warp(calibration, calibration.infrared.size, calibration.visible.size)
    assert warp is not None and warp.valid is not None
    # the guide says which visible pixel the first infrared pixel is
    u, v, w = calibration.matrix3() @ (0.0, 0.0, 1.0)
    assert f"({u / w:g}, {v / w:g})" in guide
    for field in Calibration.model_fields:
        assert f"`{field}`" in guide, f"{field} is not explained"


def test_the_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert code
    for block in code:
        exec(compile(block, str(GUIDE), "exec"), {})
    assert (tmp_path / "roof.calibration.yaml").exists()
