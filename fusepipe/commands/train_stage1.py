"""``fusepipe train stage1``: the first stage of the paper's network, an auto-encoder of photographs."""

from __future__ import annotations

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.training import PHOTOGRAPHS, Run, mfe_config, require_training, run_options, show_mfe


@click.command(
    "stage1",
    short_help="Train stage 1 of mfe, an auto-encoder.",
    epilog=examples(
        "fusepipe train stage1 --data natural --out runs/stage1",
    ),
)
@run_options(PHOTOGRAPHS, parallel=True)
def command(run: Run) -> None:
    """Train stage 1 of `mfe`: extractor and reconstruction as an auto-encoder of photographs."""
    require_training()
    from fusepipe.train.session.mfe import train_stage1

    settings = mfe_config(run, ("stage1",))
    show_mfe(run, train_stage1(settings, run.data, run.out, resume=run.resume, device=run.device))
