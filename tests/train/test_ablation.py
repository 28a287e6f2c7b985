"""``fusepipe train ablation``: the rows of Table 2, their training and their table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.made_images import write
from helpers.training import mfe_arguments, require_training, train_in_child

require_training()

from fusepipe.train.ablation import AblationRow, ablation_table, wins
from fusepipe.train.configs.mfe import load_mfe_config


def test_rows_and_wins() -> None:
    metrics = ("MI", "CC", "VIF", "Qabf", "SCD", "SSIM")
    rows = [
        AblationRow("without D", {metric: [1.0, 3.0] for metric in metrics}),
        AblationRow("full", {metric: [2.5, 2.7] if metric != "CC" else [1.0, 1.0] for metric in metrics}),
    ]
    assert rows[0].mean("MI") == 2 and rows[0].spread("MI") == pytest.approx(2**0.5)
    assert wins(rows) == {"without D": 5}
    text = ablation_table(rows, {("pairs", "full", "MI"): 2.83})
    assert "| full | 2.600 ± 0.141 | 1.000 ± 0.000 |" in text and "| as printed | 2.83 |" in text


def test_an_ablation_trains_the_attention_as_the_rest() -> None:
    config = load_mfe_config("default", shipped="ablation")
    steps = {"steps", "validate_every"}
    assert config.attention.model_dump(exclude=steps) == config.finetune.model_dump(exclude=steps)
    assert config.attention.steps < config.finetune.steps
    shipped = load_mfe_config("default")
    assert (config.finetune.losses, config.finetune.camera) == (shipped.finetune.losses, shipped.finetune.camera)
    assert config.network == shipped.network


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_table_is_printed(tmp_path: Path) -> None:
    test = tmp_path / "tno" / "pairs"
    for band, seed in (("ir", 30), ("vis", 31)):
        write(test / band / "a.png", 80, 96, seed=seed)
    out = tmp_path / "ablation"
    given = ["ablation", *mfe_arguments(tmp_path), "--test", str(test), "--seeds", "1"]
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
