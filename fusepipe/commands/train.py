"""``fusepipe train``: trains the networks that fusepipe ships."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import click

from fusepipe.errors import EngineError, Interrupted

_NEEDED = ("torch", "safetensors", "onnx", "onnxscript", "tensorboard")


def require_training() -> None:
    """Raises :class:`EngineError` with the line that installs what training needs."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(f"training needs {', '.join(missing)}: pip install 'fusepipe[train]'")


@click.group()
def command() -> None:
    """Train the networks that fusepipe ships."""


@command.command()
@click.option("--config", default="default", show_default=True, help="'default' or a YAML file.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with DATASET/ir and DATASET/vis of the committed split.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the configuration's steps.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's seed.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def student(
    config: str,
    data: Path,
    out: Path,
    steps: int | None,
    seed: int | None,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train the `stream` student; export it as ONNX; score it on the validation pairs.

    Ctrl-C stops it after the step in hand and leaves a checkpoint for --resume.
    """
    require_training()
    from fusepipe.train.config import load_config
    from fusepipe.train.session import train_student

    changes = {key: value for key, value in (("steps", steps), ("seed", seed)) if value is not None}
    report = train_student(load_config(config).model_copy(update=changes), data, out, resume=resume, device=device)
    if not report["finished"]:
        raise Interrupted(f"stopped at step {report['step']}; go on with --resume --out {out}")
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for name, value in report["validation"].items():
            click.echo(f"{name:5} {value:.3f}")
        click.echo(f"weights of step {report['best_step']}: {report['weights']}, {report['onnx']}")
