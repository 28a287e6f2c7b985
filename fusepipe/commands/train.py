"""``fusepipe train``: trains the networks that fusepipe ships."""

from __future__ import annotations

from pathlib import Path

import click

from fusepipe.commands import train_mfe
from fusepipe.commands.console.training import PAIRS, PHOTOGRAPHS, Run, require_training, run_options
from fusepipe.commands.train_ablation import ablation
from fusepipe.commands.train_figures import figures


@click.group()
def command() -> None:
    """Train the networks that fusepipe ships."""


@command.command()
@run_options(PAIRS)
@click.option(
    "--detector",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YOLOX detector (.onnx) whose detections the fused image should keep; without it this term is off.",
)
def student(run: Run, detector: Path | None) -> None:
    """Train a student; export it as ONNX; score it on the validation pairs.

    `default` is `stream`, `--config stream-hq` the larger student, `--config FILE.yaml` your own.
    Ctrl-C stops it after the current step and writes a checkpoint for --resume.
    """
    require_training()
    from fusepipe.train.configs.student import load_student_config
    from fusepipe.train.session.student import train_student

    settings = load_student_config(run.config).model_copy(update=run.changes)
    report = train_student(settings, run.data, run.out, detector=detector, resume=run.resume, device=run.device)
    run.show(report)
    if not run.as_json:
        click.echo(f"weights of step {report['step']}: {report['weights']}, {report['onnx']}")
        click.echo("detection term: " + (f"with {detector}" if detector else "off, no --detector given"))


def _baseline_command(baseline: str, text: str, data_help: str) -> click.Command:
    """The command that trains one learned baseline."""

    @click.command(baseline, help=text)
    @run_options(data_help)
    def train(run: Run) -> None:
        require_training()
        from fusepipe.train.configs.baselines import load_baseline_config
        from fusepipe.train.session.baselines import train_baseline

        settings = load_baseline_config(baseline, run.config).model_copy(update=run.changes)
        report = train_baseline(baseline, settings, run.data, run.out, resume=run.resume, device=run.device)
        run.show(report)
        if not run.as_json:
            click.echo(f"weights of step {report['step']}: {', '.join(report['onnx'])}")

    return train


for _name, _text, _data in (
    ("densefuse", "Train the DenseFuse baseline (auto-encoder) on photographs; export both its rules.", PHOTOGRAPHS),
    ("fusiongan", "Train the FusionGAN baseline on registered pairs; export it.", PAIRS),
    ("ddcgan", "Train the DDcGAN baseline on registered pairs; export it.", PAIRS),
):
    command.add_command(_baseline_command(_name, _text, _data))

for _command in (*train_mfe.COMMANDS, ablation, figures):
    command.add_command(_command)
