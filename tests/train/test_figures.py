"""``fusepipe train figures``: curves and images."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from helpers.made_images import write
from helpers.training import require_training

from fusepipe.commands.train import command
from fusepipe.core.errors import SourceError

require_training()

from fusepipe.train.configs.mfe import MfeConfig
from fusepipe.train.figures import plot, read_curve
from fusepipe.train.session.mfe import train_stage1


class TestCommand:
    def test_the_figures_show_both_runs(self, tmp_path: Path) -> None:
        for n in range(5):
            write(tmp_path / "photos" / f"{n}.png", seed=n)
        for name, adversarial in (("with", 0.1), ("without", 0.0)):
            stage = {"steps": 20, "batch": 2, "crop_px": 32, "validate_every": 20, "adversarial": adversarial}
            config = MfeConfig.model_validate({"stage1": {**stage, "workers": 0, "threads": 1}})
            train_stage1(config, tmp_path / "photos", tmp_path / name, device="cpu")
        big = tmp_path / "big"
        for n in range(2):
            write(big / f"{n}.png", 90, 120, seed=n)
        places = ["--with", tmp_path / "with", "--without", tmp_path / "without"]
        arguments = ["figures", *places, "--photographs", big, "--out", tmp_path / "out"]
        done = CliRunner().invoke(command, [str(a) for a in arguments])
        assert done.exit_code == 0, done.output
        svg = (tmp_path / "out" / "stage1-loss.svg").read_text()
        assert svg.count("<polyline") == 2 and "without discriminator" in svg
        images = cv2.imread(str(tmp_path / "out" / "stage1-images.png"))
        assert images is not None and images.shape[1] >= 3 * 256
        with pytest.raises(SourceError, match="stage 1"):
            read_curve(big, ("train/pixel",))


class TestPlot:
    def test_many_points_are_smoothed_and_few_are_not(self) -> None:
        few, many = ([(step, 1.0 + step % 2) for step in range(count)] for count in (10, 100))
        assert plot({"a": few}, "t", "y").count("<polyline") == 1
        assert plot({"a": many}, "t", "y").count("<polyline") == 2
