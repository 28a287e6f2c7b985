"""The planes of a rig's calibration file, as displacements from which local alignment starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.named_planes import with_plane
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.config.schema import RegistrationConfig
from fusepipe.rig.factories.registration import plane_displacements

FAR = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])
NEAR = np.array([[1.0, 0.0, -20.0], [0.0, 1.0, 4.0], [0.0, 0.0, 1.0]]) @ FAR
SIZES = (320, 240), (640, 480)


def calibration_file(folder: Path, *, planes: bool) -> str:
    calibration = make_calibration("affine", *SIZES, FAR)
    if planes:
        calibration = with_plane(calibration, "near", NEAR, None)
    save_calibration(calibration, folder / "rig.yaml")
    return str(folder / "rig.yaml")


@pytest.mark.parametrize(("plane", "right", "down"), [(None, 20.0, -4.0)])
def test_where_the_own_map_shows_what_lies_on_another_plane(
    tmp_path: Path, plane: str | None, right: float, down: float
) -> None:
    settings = RegistrationConfig(calibration=calibration_file(tmp_path, planes=True), plane=plane, local="on")
    displacements = plane_displacements(settings)
    assert displacements is not None
    (field,) = displacements((320, 240), (160, 120))
    assert field.shape == (12, 16, 2) and field[..., 0] * 640 == pytest.approx(right, abs=0.1)
    assert field[..., 1] * 640 == pytest.approx(down, abs=0.1)


def test_nothing_to_start_from_without_other_planes(tmp_path: Path) -> None:
    assert plane_displacements(RegistrationConfig(local="on")) is None
    calibration = calibration_file(tmp_path, planes=False)
    assert plane_displacements(RegistrationConfig(calibration=calibration, local="on")) is None
