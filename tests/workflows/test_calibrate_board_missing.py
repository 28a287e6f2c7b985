"""``fusepipe calibrate board`` with a board that is not in the images, or of another size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.board_images import write_views

from fusepipe.calibration.board.target import parse_board
from fusepipe.cli import main
from fusepipe.core.errors import UsageError
from fusepipe.workflows.calibrate_board import read_folder


def test_folders_without_the_board_are_reported_after_a_few_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
    for number in range(10):
        assert cv2.imwrite(str(tmp_path / "ir" / f"{number}.png"), np.full((64, 80), 90 + number, np.uint8))
    board = ["--board", "checkerboard:6x5:0.1m", "-o", str(tmp_path / "x.yaml")]
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "board", str(tmp_path / "ir"), str(tmp_path / "vis"), *board])
    assert stopped.value.code == 2 and not (tmp_path / "x.yaml").exists()
    said = capsys.readouterr().err
    assert "no checkerboard:6x5:0.1m in the first 4 of the 10 infrared images: check --board" in said


def test_a_board_of_another_size_is_named_after_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_views(tmp_path, 10)
    wrong = ["--board", "checkerboard:8x6:0.1m", "-o", str(tmp_path / "x.yaml")]
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "board", str(tmp_path / "ir"), str(tmp_path / "vis"), *wrong])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert (
        "no checkerboard:8x6:0.1m in the first of the 10 infrared images, but several show a checkerboard of 7x6"
        in said
    )
    assert "of 7x6 inner corners: try --board checkerboard:7x6:0.1m" in said


@pytest.mark.data
@pytest.mark.parametrize(("name", "camera"), [("ir", "infrared"), ("vis", "visible")])
def test_the_real_boards_are_named(data_dir: Path, name: str, camera: str) -> None:
    folder = data_dir / "calibration_boards" / name
    with pytest.raises(UsageError, match="several show a checkerboard of 6x5 inner corners"):
        read_folder([folder], parse_board("checkerboard:7x6:0.1m"), camera)
