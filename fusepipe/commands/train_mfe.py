"""``fusepipe train mfe``: all stages of the paper's network."""

from __future__ import annotations

from pathlib import Path

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.training import (
    PAIRS,
    PHOTOGRAPHS,
    Run,
    mfe_config,
    require_training,
    run_options,
    show_mfe,
)


@click.command(
    "mfe",
    short_help="Train the paper's network, all stages.",
    epilog=examples(
        "fusepipe train mfe --photographs natural --data DATA --out runs/mfe",
    ),
)
@run_options(PAIRS, steps=False, parallel=True)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help=PHOTOGRAPHS)
def command(run: Run, photographs: Path) -> None:
    """Train the paper's network: stage1 on photographs, attention and finetune on pairs.

    Each stage has its folder in --out. Ctrl-C stops after the current step and writes a checkpoint for --resume.
    """
    require_training()
    from fusepipe.train.session.mfe import train_mfe

    settings = mfe_config(run, ("stage1", "attention", "finetune"))
    show_mfe(run, train_mfe(settings, photographs, run.data, run.out, resume=run.resume, device=run.device))
