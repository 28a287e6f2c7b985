"""What a training does with bad input: one line that names it, before the work where that can be, and nothing lost."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.training import require_training

torch = require_training()

from helpers.made_images import write

from fusepipe.core.errors import ConfigError, EngineError, SourceError, UsageError
from fusepipe.train.checkpoint import CHECKPOINT
from fusepipe.train.configs.baselines import (
    BaselineConfig,
    load_baseline_config,
)
from fusepipe.train.configs.mfe import MfeConfig, load_mfe_config
from fusepipe.train.configs.student import StudentConfig, load_student_config
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import committed_pairs, paired_folders, photographs
from fusepipe.train.data.pairs import load_pairs, load_photographs
from fusepipe.train.device import choose_device
from fusepipe.train.distributed import process_group
from fusepipe.train.figures import read_curve
from fusepipe.train.networks.pyramid import PyramidNet
from fusepipe.train.session.baselines import train_baseline
from fusepipe.train.session.console import stop_on_signals
from fusepipe.train.session.mfe import REPORT, WEIGHTS, train_fusion, train_stage1
from fusepipe.train.session.student import train_student
from fusepipe.train.tasks.autoencoder import AutoEncoderTask
from fusepipe.train.tasks.base import Loss
from fusepipe.train.tasks.student import new_student
from fusepipe.train.tensors import read_tensors, weights_hash, write_tensors
from fusepipe.train.weights import save_student


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for n in range(6):
        write(tmp_path / "photos" / f"{n}.png", seed=n)
    return tmp_path / "photos"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for n in range(3):
        for band, seed in (("ir", 10 + n), ("vis", 20 + n)):
            write(tmp_path / "pairs" / "made" / band / f"{n}.png", seed=seed)
    return tmp_path / "pairs"


def config(**changes: Any) -> MfeConfig:
    stage = {"steps": 4, "batch": 2, "crop_px": 32, "validate_every": 4, "workers": 0, "threads": 1, **changes}
    return MfeConfig.model_validate({"stage1": stage, "finetune": {**stage, "pairs": "folders"}})


def stage1(folder: Path, out: Path, *, resume: bool = False, **changes: Any) -> dict[str, Any]:
    return train_stage1(config(**changes), folder, out, resume=resume, device="cpu")


class TestImages:
    def test_a_broken_image_loses_no_training(self, photos: Path, tmp_path: Path) -> None:
        out, steps = tmp_path / "out", 60
        good = (photos / "3.png").read_bytes()
        (photos / "3.png").write_bytes(b"no image")
        with pytest.raises(SourceError, match=r"3\.png: not an image"):
            stage1(photos, out, steps=steps, validate_every=steps, seed=2)
        done = json.loads(read_tensors(out / CHECKPOINT)[1]["state"])["progress"]["step"]
        assert 0 < done < steps, "the steps before the broken image are kept"
        (photos / "3.png").write_bytes(good)
        report = stage1(photos, out, resume=True, steps=steps, validate_every=steps, seed=2)
        assert report["finished"] and report["steps_here"] == steps - done

    def test_an_invalid_validation_image_is_refused_before_the_first_step(
        self, photos: Path, pairs: Path, tmp_path: Path
    ) -> None:
        write(photos / "0.png", 5, 200)  # the first of every twenty validates
        with pytest.raises(SourceError, match=r"0\.png: 200x5 is too small for validation"):
            stage1(photos, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        write(photos / "0.png")
        stage1(photos, tmp_path / "out")
        for band in ("ir", "vis"):
            write(pairs / "made" / band / "2.png", 15, 64)
        with pytest.raises(SourceError, match=r"vis/2\.png: 64x15 is too small"):
            train_fusion("finetune", config(), tmp_path / "out" / WEIGHTS, pairs, tmp_path / "fine", device="cpu")

    @pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (2, 301)])
    def test_a_thin_image_is_halved_as_far_as_possible(self, height: int, width: int, tmp_path: Path) -> None:
        image = DecodedImages(100)[write(tmp_path / "thin.png", height, width)]
        assert min(image.shape) == 1 and max(image.shape) <= 300

    def test_missing_folders_are_named(self, tmp_path: Path) -> None:
        for find in (photographs, committed_pairs, paired_folders):
            with pytest.raises(SourceError, match="gone: there is no such folder"):
                find(tmp_path / "gone")
        for load in (load_photographs, lambda folder, px: load_pairs(folder, [("a", "1")], px)):
            with pytest.raises(SourceError, match="gone: there is no such folder"):
                load(tmp_path / "gone", 800)

    def test_all_photographs_are_counted(self, tmp_path: Path) -> None:
        write(tmp_path / "one" / "a.png")
        with pytest.raises(SourceError, match="one: 1 photographs"):
            photographs(tmp_path / "one")

    def test_tno_below_the_folder_is_refused_before_the_first_step(self, photos: Path, tmp_path: Path) -> None:
        write(photos / "TNO" / "vis" / "1.png")
        for read in (photographs, lambda folder: load_photographs(folder, 800)):
            with pytest.raises(UsageError, match="never trained on"):
                read(photos)


class TestRuns:
    def test_a_validation_loss_that_is_not_finite_ends_it(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nan = torch.tensor(float("nan"))
        monkeypatch.setattr(AutoEncoderTask, "validate", lambda self, network, device: Loss(nan, {"ssim": nan}))
        with pytest.raises(EngineError, match="validation loss is nan at step 4: lower learning_rate"):
            stage1(photos, tmp_path / "out")
        assert not (tmp_path / "out" / WEIGHTS).exists()

    def test_lost_files_of_a_finished_run_are_written_again(self, photos: Path, tmp_path: Path) -> None:
        out, moved = tmp_path / "out", tmp_path / "moved"
        stage1(photos, out)
        made = weights_hash(out / WEIGHTS)
        (out / WEIGHTS).unlink()
        assert stage1(photos, out, resume=True)["weights"] == str(out / WEIGHTS)
        assert weights_hash(out / WEIGHTS) == made
        for left in ("", "{}", '{"config": 1}'):
            (out / REPORT).write_text(left)
            assert stage1(photos, out, resume=True)["best_step"] == 4
            assert json.loads((out / REPORT).read_text())["best_step"] == 4
        shutil.move(out, moved)
        assert stage1(photos, moved, resume=True)["weights"] == str(moved / WEIGHTS)

    def test_a_finished_run_of_other_data_or_another_start_is_not_resumed(
        self, photos: Path, pairs: Path, tmp_path: Path
    ) -> None:
        stage1(photos, tmp_path / "out")
        write(photos / "9.png", seed=9)
        with pytest.raises(UsageError, match="files was 5, is 6"):
            stage1(photos, tmp_path / "out", resume=True)
        starts = [tmp_path / name / WEIGHTS for name in ("out", "other")]
        stage1(photos, tmp_path / "other", seed=1)
        train_fusion("finetune", config(), starts[0], pairs, tmp_path / "fine", device="cpu")
        with pytest.raises(UsageError, match="start was"):
            train_fusion("finetune", config(), starts[1], pairs, tmp_path / "fine", resume=True, device="cpu")

    def test_the_same_weights_written_otherwise_are_the_same_start(self, tmp_path: Path) -> None:
        tensors = {"a": torch.arange(3.0), "b": torch.tensor(2)}
        write_tensors(tmp_path / "one", tensors, {"x": "1", "y": "2"})
        write_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"y": "3"})
        write_tensors(tmp_path / "three", {**tensors, "b": torch.tensor(3)}, {"x": "1", "y": "2"})
        first, second, third = (weights_hash(tmp_path / name) for name in ("one", "two", "three"))
        assert first == second != third

    def test_a_checkpoint_of_another_format_is_refused(self, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        stage1(photos, out)
        (out / WEIGHTS).unlink()
        write_tensors(out / CHECKPOINT, read_tensors(out / CHECKPOINT)[0], {})
        with pytest.raises(EngineError, match=f"{CHECKPOINT}: not a checkpoint of this version"):
            stage1(photos, out, resume=True)

    def test_a_start_of_another_width_is_reported(self, tmp_path: Path) -> None:
        save_student(tmp_path / "narrow.safetensors", PyramidNet(16), {})
        changes = {"initial": str(tmp_path / "narrow.safetensors")}
        settings = load_student_config("default").model_copy(update=changes)
        with pytest.raises(UsageError, match=r"initial: .*narrow\.safetensors has .*'16'.* asks for .*'48'"):
            new_student(settings, start=True)

    def test_the_third_signal_ends_an_unresponsive_run(self) -> None:
        with stop_on_signals() as stop:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
                assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


class TestValues:
    @pytest.mark.parametrize(
        "values",
        [
            {"seed": 2**32},
            {"threads": 257},
            {"crop_px": 4097},
            {"max_side_px": 15},
            {"learning_rate": float("inf")},
            {"pixel": float("inf")},
            {"camera": {"noise": float("nan")}},
        ],
    )
    def test_of_mfe(self, values: dict[str, Any], tmp_path: Path) -> None:
        text = json.dumps({"stage1": values}).replace("Infinity", ".inf").replace("NaN", ".nan")
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(ConfigError, match=f"own.yaml: stage1.{next(iter(values))}"):
            load_mfe_config(str(tmp_path / "own.yaml"))

    @pytest.mark.parametrize("values", [{"seed": 2**32}, {"channels": 10**6}, {"max_side_px": 2}, {"crop_px": 10**5}])
    def test_of_a_student(self, values: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=f"own.yaml: {next(iter(values))}"):
            load_student_config(str(tmp_path / "own.yaml"))

    def test_the_largest_seed_trains(self, photos: Path, tmp_path: Path) -> None:
        assert stage1(photos, tmp_path / "out", seed=2**32 - 1)["finished"]

    @pytest.mark.parametrize("name", ["meta", "gpu", "cuda:99"])
    def test_devices(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"cannot train on '{name}'.*--device cpu"):
            choose_device(name)


class TestSeveralProcesses:
    @pytest.fixture(autouse=True)
    def two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")

    def test_students_and_baselines_train_in_one(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="a student trains in one process, and torchrun started 2"):
            train_student(StudentConfig(), photos, tmp_path / "out", device="cpu")
        settings: BaselineConfig = load_baseline_config("densefuse", "default")
        with pytest.raises(UsageError, match="a baseline trains in one process"):
            train_baseline("densefuse", settings, photos, tmp_path / "out", device="cpu")
        assert not (tmp_path / "out").exists()

    def test_an_incomplete_environment_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with (
            pytest.raises(UsageError, match="WORLD_SIZE=2 without RANK, LOCAL_RANK"),
            process_group(torch.device("cpu")),
        ):
            pass
        monkeypatch.setenv("WORLD_SIZE", "two")
        with pytest.raises(UsageError, match="WORLD_SIZE=two is not a number"), process_group(torch.device("cpu")):
            pass


def test_figures_of_a_missing_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone: no such folder"):
        read_curve(tmp_path / "gone", ("train/pixel",))
