"""``fusepipe train student``: the networks ``stream`` and ``stream-hq``, and students of your own."""

from __future__ import annotations

from pathlib import Path

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.training import PAIRS, Run, require_training, run_options


@click.command(
    "student",
    short_help="Train a student, such as stream.",
    epilog=examples(
        "fusepipe train student --data DATA --out runs/student",
    ),
)
@run_options(PAIRS)
@click.option(
    "--detector",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YOLOX detector (.onnx) whose detections the fused image should keep; without it this term is off.",
)
def command(run: Run, detector: Path | None) -> None:
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
