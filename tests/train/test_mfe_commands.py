"""``fusepipe train mfe`` and its ablation: configuration, all stages in a process, resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.made_images import write
from helpers.training import interrupting, require_training, train_in_child

from fusepipe.core.errors import ConfigError, UsageError

require_training()

from fusepipe.train.configs.mfe import load_mfe_config
from fusepipe.train.session.mfe import train_stage1


class TestConfig:
    def test_the_default_is_complete_and_cheap_enough(self) -> None:
        config = load_mfe_config("default")
        assert config.network.dense and config.network.attention and config.network.skips
        assert all(stage.clip_norm > 0 for stage in (config.stage1, config.attention, config.finetune))

    def test_an_ablation_trains_the_attention_as_the_rest(self) -> None:
        config = load_mfe_config("default", shipped="ablation")
        steps = {"steps", "validate_every"}
        assert config.attention.model_dump(exclude=steps) == config.finetune.model_dump(exclude=steps)
        assert config.attention.steps < config.finetune.steps
        shipped = load_mfe_config("default")
        assert (config.finetune.losses, config.finetune.camera) == (shipped.finetune.losses, shipped.finetune.camera)
        assert config.network == shipped.network

    def test_mistakes_name_file_and_key(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("finetune: {camera: {gian: 0.2}}")
        with pytest.raises(ConfigError, match=r"own.yaml: finetune.camera.gian: unknown key: did you mean 'gain'"):
            load_mfe_config(str(tmp_path / "own.yaml"))


class TestCommand:
    CONFIG = "{steps: 3, batch: 2, crop_px: 32, validate_every: 2, validation_images: 1, workers: 0, threads: 1}"

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> list[str]:
        for n in range(3):
            write(tmp_path / "photos" / f"{n}.png", seed=n)
            for band, seed in (("ir", 10 + n), ("vis", 20 + n)):
                write(tmp_path / "data" / "made" / band / f"{n}.png", seed=seed)
        pairs = self.CONFIG.replace("{", "{pairs: folders, ")
        config = tmp_path / "tiny.yaml"
        config.write_text(f"stage1: {self.CONFIG}\nattention: {pairs}\nfinetune: {pairs}\n")
        places = ["--photographs", tmp_path / "photos", "--data", tmp_path / "data", "--out", tmp_path / "out"]
        return ["mfe", "--config", str(config), *map(str, places), "--device", "cpu"]

    @pytest.mark.slow
    @pytest.mark.timeout(260)
    def test_all_stages_run_stop_and_resume(self, arguments: list[str], tmp_path: Path) -> None:
        stopped = train_in_child(arguments, interrupting("fusepipe.train.tasks.autoencoder", "AutoEncoderTask"))
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        done = train_in_child([*arguments, "--resume", "--json"])
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["stage"] == "finetune" and set(report["validation"]) >= {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert Path(report["onnx"]).is_file() and Path(report["weights"]).is_file()
        again = train_in_child([*arguments, "--resume"])
        assert again.returncode == 0 and "mfe.onnx" in again.stdout, again.stderr

    @pytest.mark.slow
    @pytest.mark.timeout(260)
    def test_the_ablation_prints_its_table(self, arguments: list[str], tmp_path: Path) -> None:
        test = tmp_path / "tno" / "pairs"
        for band, seed in (("ir", 30), ("vis", 31)):
            write(test / band / "a.png", 80, 96, seed=seed)
        out = tmp_path / "ablation"
        given = ["ablation", *arguments[1:], "--test", str(test), "--seeds", "1"]
        given[given.index("--out") + 1] = str(out)
        done = train_in_child(given)
        assert done.returncode == 0, done.stderr
        assert "| without D |" in done.stdout and "full is above without A in" in done.stdout
        assert (out / "table2.md").read_text() == done.stdout
        # the row without attention has the steps of its stage as well
        runs = {path.parts[-3]: json.loads(path.read_text())["step"] for path in out.glob("*/finetune/report.json")}
        assert runs == {"without-d-0": 3, "without-a-0": 6, "without-s-0": 3, "full-0": 3}
        assert len(list(out.glob("stage1-*"))) == 3
        # scores that cannot be read are computed again
        for row, left in (("full-0", '{"MI": 2.'), ("without-d-0", '{"MI": 2.0}')):
            (out / row / "finetune" / "scores.json").write_text(left)
        again = train_in_child([*given, "--resume"])
        assert again.returncode == 0 and again.stdout == done.stdout, again.stderr
        config = Path(given[given.index("--config") + 1])
        config.write_text(config.read_text().replace("stage1:", "network: {overshoot: 0.5}\nstage1:"))
        other = train_in_child([*given, "--resume"])
        assert other.returncode == 2 and "overshoot was 1.0, is 0.5" in other.stderr
        config.write_text(config.read_text().replace("overshoot: 0.5", "dense: false"))
        lacking = train_in_child([*given, "--resume"])
        assert lacking.returncode == 2 and "switches off one part at a time: leave all on" in lacking.stderr


def test_resuming_without_a_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        train_stage1(load_mfe_config("default"), tmp_path, tmp_path / "absent", resume=True, device="cpu")
