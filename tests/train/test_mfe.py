"""``fusepipe train mfe``: configuration, all stages in a process, resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.training import interrupting, mfe_arguments, require_training, train_in_child

from fusepipe.core.errors import ConfigError, UsageError

require_training()

from fusepipe.train.configs.mfe import load_mfe_config
from fusepipe.train.session.mfe import train_stage1


class TestConfig:
    def test_the_default_is_complete_and_cheap_enough(self) -> None:
        config = load_mfe_config("default")
        assert config.network.dense and config.network.attention and config.network.skips
        assert all(stage.clip_norm > 0 for stage in (config.stage1, config.attention, config.finetune))

    def test_mistakes_name_file_and_key(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("finetune: {camera: {gian: 0.2}}")
        with pytest.raises(ConfigError, match=r"own.yaml: finetune.camera.gian: unknown key: did you mean 'gain'"):
            load_mfe_config(str(tmp_path / "own.yaml"))


class TestCommand:
    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_all_stages_run_stop_and_resume(self, tmp_path: Path) -> None:
        arguments = ["mfe", *mfe_arguments(tmp_path)]
        stopped = train_in_child(arguments, interrupting("fusepipe.train.tasks.autoencoder", "AutoEncoderTask"))
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        done = train_in_child([*arguments, "--resume", "--json"])
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["stage"] == "finetune" and set(report["validation"]) >= {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert Path(report["onnx"]).is_file() and Path(report["weights"]).is_file()
        again = train_in_child([*arguments, "--resume"])
        assert again.returncode == 0 and "mfe.onnx" in again.stdout, again.stderr


def test_resuming_without_a_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        train_stage1(load_mfe_config("default"), tmp_path, tmp_path / "absent", resume=True, device="cpu")
