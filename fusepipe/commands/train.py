"""``fusepipe train``: the group of training commands, one module each."""

from __future__ import annotations

import click

from fusepipe.commands import (
    train_ablation,
    train_attention,
    train_ddcgan,
    train_densefuse,
    train_describe,
    train_figures,
    train_finetune,
    train_fusiongan,
    train_mfe,
    train_stage1,
    train_student,
)


@click.group()
def command() -> None:
    """Train the networks that fusepipe ships."""


for module in (
    train_student,
    train_densefuse,
    train_fusiongan,
    train_ddcgan,
    train_mfe,
    train_stage1,
    train_attention,
    train_finetune,
    train_describe,
    train_ablation,
    train_figures,
):
    command.add_command(module.command)
