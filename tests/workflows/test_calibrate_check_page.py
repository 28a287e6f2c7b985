"""The page of ``calibrate check`` on a telephone, in a real browser, and the names that it may have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.chromium import Tab, browse

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.cli import cli
from fusepipe.core.errors import UsageError

SIZE = (160, 120)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A calibration and one pair that it fits."""
    scene = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, SIZE[::-1]), (0, 0), 2)
    image = np.clip((scene - scene.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "ir.png"), image)
    assert cv2.imwrite(str(tmp_path / "vis.png"), image // 2 + 60)
    save_calibration(make_calibration("identity", SIZE, SIZE), tmp_path / "c.yaml")
    return [str(tmp_path / name) for name in ("c.yaml", "ir.png", "vis.png")]


def test_all_figures_are_in_view_on_a_narrow_screen(inputs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    ran = CliRunner().invoke(cli, ["calibrate", "check", *inputs, "-o", str(page)])
    assert ran.exit_code == 0, ran.output

    async def look(tab: Tab) -> None:
        await tab.size(375, 800)
        await tab.open(page.as_uri())
        cells = "[...document.querySelectorAll('.check table')[0].querySelectorAll('td')]"
        assert await tab.value(f"{cells}.length") > 4
        assert await tab.value(f"Math.max(...{cells}.map(c => c.getBoundingClientRect().right))") <= 375

    browse(tmp_path / "profile", look)


@pytest.mark.parametrize("name", ["check.pdf", "check"])
def test_a_page_of_another_kind_is_refused(inputs: list[str], tmp_path: Path, name: str) -> None:
    ran = CliRunner().invoke(cli, ["calibrate", "check", *inputs, "-o", str(tmp_path / name)])
    assert isinstance(ran.exception, UsageError) and "ends in .html or .htm" in str(ran.exception)
    assert not (tmp_path / name).exists()
