"""``fusepipe train mfe``, its stages one by one, and ``describe``: the paper's network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.options import Size
from fusepipe.commands.console.training import PAIRS, PHOTOGRAPHS, Run, require_training, run_options

if TYPE_CHECKING:
    from fusepipe.train.configs.mfe import MfeConfig
    from fusepipe.train.session.mfe import FusionStage


@click.command("mfe")
@run_options(PAIRS, steps=False)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help=PHOTOGRAPHS)
def mfe(run: Run, photographs: Path) -> None:
    """Train the paper's network: stage1 on photographs, attention and finetune on pairs.

    Each stage has its folder in --out. Ctrl-C stops after the current step and writes a checkpoint for --resume.
    """
    require_training()
    from fusepipe.train.session.mfe import train_mfe

    settings = _config(run, ("stage1", "attention", "finetune"))
    _report(run, train_mfe(settings, photographs, run.data, run.out, resume=run.resume, device=run.device))


@click.command("stage1")
@run_options(PHOTOGRAPHS)
def stage1(run: Run) -> None:
    """Train stage 1 of `mfe`: extractor and reconstruction as an auto-encoder of photographs."""
    require_training()
    from fusepipe.train.session.mfe import train_stage1

    settings = _config(run, ("stage1",))
    _report(run, train_stage1(settings, run.data, run.out, resume=run.resume, device=run.device))


def _fusion_command(name: FusionStage, text: str) -> click.Command:
    @click.command(name, help=text)
    @run_options(PAIRS)
    @click.option("--start", required=True, type=click.Path(path_type=Path), help="Weights of the previous stage.")
    def train(run: Run, start: Path) -> None:
        require_training()
        from fusepipe.train.session.mfe import train_fusion

        settings = _config(run, (name,))
        _report(run, train_fusion(name, settings, start, run.data, run.out, resume=run.resume, device=run.device))

    return train


attention = _fusion_command("attention", "Train the attention of `mfe` on registered pairs, the rest frozen.")
finetune = _fusion_command("finetune", "Train all of `mfe` on registered pairs.")


@click.command("describe")
@click.option("--config", default="default", show_default=True, help="'default' or a YAML file.")
@click.option("--size", type=Size(), default="640x480", show_default=True, help="Image size for the shapes and costs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def describe(config: str, size: tuple[int, int], as_json: bool) -> None:
    """Print the parts of `mfe` and the students: shapes, parameters, multiply-accumulates per pixel."""
    require_training()
    from fusepipe.train.configs.mfe import load_mfe_config
    from fusepipe.train.describe import describe_models, parts_table

    width, height = size
    found = describe_models(load_mfe_config(config).network, height, width)
    click.echo(json.dumps([part.as_json() for part in found], indent=2) if as_json else parts_table(found))


COMMANDS = (mfe, stage1, attention, finetune, describe)


def _config(run: Run, sections: tuple[str, ...]) -> MfeConfig:
    """The configuration with the overrides of the command line."""
    from fusepipe.train.configs.mfe import load_mfe_config

    settings = load_mfe_config(run.config)
    changed = {section: getattr(settings, section).model_copy(update=run.changes) for section in sections}
    return settings.model_copy(update=changed)


def _report(run: Run, report: dict[str, Any]) -> None:
    if "weights" not in report and report["finished"]:
        return  # of several processes only process 0 has a complete report
    run.show(report)
    if not run.as_json:
        files = [report["weights"], *([report["onnx"]] if "onnx" in report else [])]
        click.echo(f"weights of step {report['best_step']}: {', '.join(files)}")
