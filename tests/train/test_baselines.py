"""Trainings of the learned baselines: the adversarial loop, data, configuration, the command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.made_pairs import make_pairs
from helpers.training import assert_equal_checkpoints, require_training, run_loop, write_pairs

from fusepipe.commands import train as train_command
from fusepipe.commands.console import training
from fusepipe.core.errors import ConfigError, EngineError, Interrupted, OutputExistsError, SourceError, UsageError

torch = require_training()

from fusepipe.train.checkpoint import CHECKPOINT
from fusepipe.train.configs import baselines as configs
from fusepipe.train.configs.baselines import BASELINES, BaselineConfig, load_baseline_config
from fusepipe.train.data.pairs import load_photographs
from fusepipe.train.distributed import Processes
from fusepipe.train.loop import Loop
from fusepipe.train.session import baselines as session
from fusepipe.train.tasks.baselines import AnyBaselineTask, baseline_task
from fusepipe.train.tensors import read_tensors


def tiny(name: str, **changes: object) -> BaselineConfig:
    return BASELINES[name](**{"steps": 3, "batch": 2, "crop_px": 20, "validate_every": 3, **changes})


def make_task(config: BaselineConfig) -> AnyBaselineTask:
    torch.manual_seed(config.seed)
    return baseline_task(config, make_pairs(), make_pairs(1))


def make_loop(config: BaselineConfig, task: AnyBaselineTask, out: Path, *, resume: bool = False) -> Loop:
    settings, identity = session.baseline_settings(config), config.model_dump(mode="json")
    return Loop(task, settings, out, Processes(torch.device("cpu")), identity=identity, resume=resume)


def train(
    name: str, out: Path, *, resume: bool = False, stop_after: int | None = None, **changes: object
) -> list[float]:
    config = tiny(name, **changes)
    return run_loop(make_loop(config, make_task(config), out, resume=resume), stop_after)


class TestLoop:
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(self, name: str, tmp_path: Path) -> None:
        train(name, tmp_path / "whole")
        train(name, tmp_path / "parts", stop_after=2)
        train(name, tmp_path / "parts", resume=True)
        assert_equal_checkpoints(tmp_path / "whole", tmp_path / "parts")

    @pytest.mark.parametrize("name", ["fusiongan", "ddcgan"])
    def test_both_sides_learn(self, name: str, tmp_path: Path) -> None:
        task = make_task(tiny(name))
        before = {
            f"network/{part}/{key}": value.clone()
            for part, module in (("generator", task.generator), ("critic", task.critic))
            for key, value in module.state_dict().items()
        }
        train(name, tmp_path)
        after, _ = read_tensors(tmp_path / CHECKPOINT)
        for key, value in before.items():
            if key.endswith("weight"):
                assert not torch.equal(after[key], value), key

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        losses = train("densefuse", tmp_path, steps=30, learning_rate=3e-3)
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, tmp_path: Path) -> None:
        train("densefuse", tmp_path, stop_after=1)
        with pytest.raises(OutputExistsError, match="--resume"):
            train("densefuse", tmp_path)
        with pytest.raises(UsageError, match=r"ssim was 1\.0, is 2\.0"):
            train("densefuse", tmp_path, resume=True, ssim=2.0)
        with pytest.raises(UsageError, match="nothing to resume"):
            session.train_baseline("densefuse", tiny("densefuse"), tmp_path, tmp_path / "absent", resume=True)

    def test_a_diverged_run_stops_with_a_reason(self, tmp_path: Path) -> None:
        config = tiny("ddcgan")
        task = make_task(config)
        with torch.no_grad():
            next(task.generator.parameters()).fill_(float("nan"))
        with pytest.raises(EngineError, match="lower learning_rate"):
            run_loop(make_loop(config, task, tmp_path))


class TestData:
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_tno_is_refused(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / "tno" / "pairs"
        folder.mkdir(parents=True)
        (tmp_path / "innocent").symlink_to(folder)
        for path in (folder, tmp_path / "innocent"):
            with pytest.raises(UsageError, match="test set"):
                session.train_baseline(name, tiny(name), path, tmp_path / "out")
            with pytest.raises(UsageError, match="test set"):
                load_photographs(path, 800)

    def test_a_photograph_inside_tno_is_refused_wherever_the_search_started(self, tmp_path: Path) -> None:
        (tmp_path / "tno").mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / "tno" / name), np.zeros((8, 8), np.uint8))
        with pytest.raises(UsageError, match="test set"):
            load_photographs(tmp_path, 800)

    def test_photographs_are_found_below_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "b.png"), np.full((40, 60, 3), 90, np.uint8))
        with pytest.raises(SourceError, match="1 photographs"):
            load_photographs(tmp_path, 800)
        cv2.imwrite(str(tmp_path / "more" / "a.PNG"), np.zeros((20, 30), np.uint8))
        assert [p.name for p in load_photographs(tmp_path, 800)] == ["b.png", "a.PNG"]


class TestConfig:
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_the_shipped_configurations_are_complete(self, name: str) -> None:
        from ruamel.yaml import YAML

        config = load_baseline_config(name, "default")
        written = YAML(typ="safe").load(Path(configs.__file__).with_name(f"{name}.yaml").read_text())
        assert written == config.model_dump()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("content: 1\ngradiant: 3", "gradiant: unknown key: did you mean 'gradient'"),
            ("steps: 0", "steps: Input should be greater than 0"),
            ("[1, 2]", "document"),
        ],
    )
    def test_mistakes_name_file_and_key(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_baseline_config("fusiongan", str(path))
        assert str(path) in str(caught.value) and message in str(caught.value)


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Two made pairs in a data folder, and a split that names them."""
        monkeypatch.setattr(session, "read_split", lambda split, sets: [("made", "a" if split == "train" else "b")])
        return write_pairs(tmp_path / "data")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_it_trains_and_exports(self, name: str, data: Path, tmp_path: Path) -> None:
        config = tmp_path / "tiny.yaml"
        config.write_text("{steps: 2, batch: 2, crop_px: 20}")
        out = tmp_path / "out"
        arguments = [name, "--config", str(config), "--data", str(data), "--out", str(out), "--device", "cpu"]
        done = CliRunner().invoke(train_command.command, [*arguments, "--seed", "4", "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["finished"] and report["seed"] == 4 and report["step"] == 2 and report["validation"]
        assert all(Path(path).is_file() for path in report["onnx"])
        again = CliRunner().invoke(train_command.command, [*arguments, "--seed", "4", "--resume"])
        assert again.exit_code == 0 and f"{name}.onnx" in again.stdout

    def test_a_stopped_run_says_how_to_continue(self, tmp_path: Path) -> None:
        run = training.Run("default", tmp_path, tmp_path / "out", "cpu", resume=False, as_json=False)
        with pytest.raises(Interrupted, match=r"step 3; continue with --resume --out .*out"):
            run.show({"finished": False, "step": 3})
