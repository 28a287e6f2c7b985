"""Aligning a running rig by hand, and saving that into its calibration file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fusepipe.calibration.aligner import Aligner
from fusepipe.calibration.file.model import Calibration, make_calibration
from fusepipe.calibration.file.nudge import Nudge
from fusepipe.calibration.file.storage import load_calibration, save_calibration
from fusepipe.calibration.warp import build_warp
from fusepipe.core.errors import OutputExistsError, UsageError
from fusepipe.core.frames import Size
from fusepipe.rig.factories.manual_alignment import ManualAlignment

IR: Size = (32, 24)
VIS: Size = (64, 48)
MATRIX = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])


def made(tmp_path: Path, *, correcting: bool = False) -> tuple[ManualAlignment, Aligner, Path]:
    path = tmp_path / "roof.calibration.yaml"
    save_calibration(make_calibration("affine", IR, VIS, MATRIX), path, overwrite=True)
    path.write_text(f"# north side\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    aligner = Aligner(partial(build_warp, load_calibration(path)))
    return ManualAlignment(aligner, path, VIS, correcting=correcting, stamp=lambda: "now"), aligner, path


def registered(aligner: Aligner) -> np.ndarray:
    """A registered image with one bright column."""
    infrared = np.zeros(IR[::-1], np.uint8)
    infrared[:, 10] = 200
    warp = aligner.alignment(IR, VIS)
    assert warp is not None
    return warp.apply(infrared)


def test_a_move_is_live_and_a_saved_one_is_the_same_after_a_restart(tmp_path: Path) -> None:
    alignment, aligner, path = made(tmp_path)
    before, text = registered(aligner), path.read_text(encoding="utf-8")
    alignment.move_by({"right": 6 / 64, "down": 0.0, "turn_deg": 0.0, "stretch": 1.0})
    live = registered(aligner)
    assert live[24].argmax() == before[24].argmax() + 6
    assert alignment.state()["saved"] is False and path.read_text(encoding="utf-8") == text
    backup = alignment.save()
    assert alignment.state()["saved"] is True
    assert backup.read_text(encoding="utf-8") == text
    assert backup.name == "roof.calibration.yaml.now.bak"
    restarted = Aligner(partial(build_warp, load_calibration(path)))
    assert np.array_equal(registered(restarted), live) and np.array_equal(registered(aligner), live)


def test_saving_twice_does_not_move_twice(tmp_path: Path) -> None:
    alignment, aligner, path = made(tmp_path)
    alignment.move(Nudge(right=6 / 64))
    alignment.save().unlink()
    alignment.move(Nudge(right=8 / 64))
    alignment.save()
    assert load_calibration(path).matrix3()[0, 2] == pytest.approx(0.5 + 8)
    alignment.move(Nudge())
    assert registered(aligner)[24].argmax() == registered(Aligner(partial(build_warp, _first())))[24].argmax()
    with pytest.raises(OutputExistsError):
        alignment.save()  # the clock of this test stands: no backup is overwritten
    assert load_calibration(path).matrix3()[0, 2] == pytest.approx(0.5 + 8), "nor is the file changed then"


def _first() -> Calibration:
    return make_calibration("affine", IR, VIS, MATRIX)


def test_what_somebody_else_has_changed_is_not_overwritten(tmp_path: Path) -> None:
    alignment, _, path = made(tmp_path)
    alignment.move(Nudge(right=0.1))
    save_calibration(make_calibration("affine", IR, VIS, MATRIX + np.eye(3, 3, 2)), path, True)
    with pytest.raises(UsageError, match=r"roof.calibration.yaml: has changed since the rig was started"):
        alignment.save()
    assert load_calibration(path).matrix3()[0, 2] == 1.5 and list(tmp_path.iterdir()) == [path]


def test_rigs_that_cannot_be_moved_or_saved_say_why(tmp_path: Path) -> None:
    correcting, _, _ = made(tmp_path, correcting=True)
    with pytest.raises(UsageError, match=r"the rig corrects drift, .*: set drift to watch"):
        correcting.move(Nudge(right=0.1))
    assert correcting.state()["problem"]
    bare = ManualAlignment(Aligner(partial(build_warp, None)), None, VIS)
    bare.move(Nudge(right=0.1))
    with pytest.raises(UsageError, match="the rig has no calibration file: make one with 'fusepipe calibrate scene'"):
        bare.save()
