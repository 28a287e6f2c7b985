"""``fusepipe train ablation``: the paper's Table 2."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.training import PAIRS, PHOTOGRAPHS, Run, require_training, run_options
from fusepipe.core.errors import Interrupted
from fusepipe.core.files import write_text


@click.command(
    "ablation",
    short_help="Train the ablations of mfe; print Table 2.",
    epilog=examples(
        "fusepipe train ablation --photographs natural --data DATA --test tno/pairs --out runs/ablation",
    ),
)
@run_options(PAIRS, steps=False, seed=False)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help=PHOTOGRAPHS)
@click.option("--test", required=True, type=click.Path(path_type=Path), help="Folder with ir/ and vis/ to score on.")
@click.option("--selection", help="Only these pairs of TNO: n25 for the comparison with the paper's table.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Runs of each row.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Processes for scoring.")
def command(run: Run, photographs: Path, test: Path, selection: str | None, seeds: int, jobs: int) -> None:
    """Train `mfe` full, without D, without A and without S, with several seeds; print Table 2.

    The default configuration is a reduced budget, the same for every run. The test pairs are never trained on.
    """
    require_training()
    from fusepipe.evaluation.report.published import printed_values
    from fusepipe.evaluation.tno_catalogue import still_pair_names
    from fusepipe.train.ablation import ablation_table, run_ablation, scored_pairs, wins
    from fusepipe.train.configs.mfe import load_mfe_config
    from fusepipe.train.session.mfe import mfe_session

    settings = load_mfe_config(run.config, shipped="ablation")
    pairs = scored_pairs(test, still_pair_names(selection) if selection else None)
    with mfe_session(run.device, run.out, resume=run.resume) as this:
        rows = run_ablation(this, settings, photographs, run.data, pairs, run.out, seeds=seeds, jobs=jobs)
    if rows is None:
        raise Interrupted(f"stopped; continue with --resume --out {run.out}")
    text = ablation_table(rows, printed_values("table2"))
    write_text(run.out / "table2.md", text + "\n")
    report = {"rows": {row.variant: dict(row.scores) for row in rows}, "full_is_above_in": wins(rows)}
    click.echo(json.dumps(report, indent=2) if run.as_json else text)
