"""``fusepipe train``: trains the networks that fusepipe ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from fusepipe.errors import EngineError, Interrupted

Function = TypeVar("Function", bound=Callable[..., Any])

_NEEDED = ("torch", "safetensors", "onnx", "onnxscript", "tensorboard")


def require_training() -> None:
    """Raises :class:`EngineError` with the line that installs what training needs."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(f"training needs {', '.join(missing)}: pip install 'fusepipe[train]'")


@click.group()
def command() -> None:
    """Train the networks that fusepipe ships."""


def _training_options(data_help: str) -> Callable[[Function], Function]:
    """The options of every training."""
    options = (
        click.option("--config", default="default", show_default=True, help="'default' or a YAML file."),
        click.option("--data", required=True, type=click.Path(path_type=Path), help=data_help),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--steps", type=click.IntRange(min=1), help="Instead of the configuration's steps."),
        click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's seed."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    )

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_PAIRS = "Folder with DATASET/ir and DATASET/vis of the committed split."
_PHOTOGRAPHS = "Folder of photographs, searched with all below it."


@command.command()
@_training_options(_PAIRS)
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

    settings = load_config(config).model_copy(update=_given(steps=steps, seed=seed))
    report = train_student(settings, data, out, resume=resume, device=device)
    _show(report, out, as_json)
    if not as_json:
        click.echo(f"weights of step {report['best_step']}: {report['weights']}, {report['onnx']}")


def _given(**options: int | None) -> dict[str, int]:
    return {name: value for name, value in options.items() if value is not None}


def _show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    """Prints a finished run; raises :class:`Interrupted` for a stopped one."""
    if not report["finished"]:
        raise Interrupted(f"stopped at step {report['step']}; go on with --resume --out {out}")
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report["validation"].items():
        click.echo(f"{name:5} {value:.3f}")


def _baseline_command(baseline: str, text: str, data_help: str) -> click.Command:
    """The training of one learned baseline."""

    @click.command(baseline, help=text)
    @_training_options(data_help)
    def train(
        config: str,
        data: Path,
        out: Path,
        steps: int | None,
        seed: int | None,
        device: str,
        resume: bool,
        as_json: bool,
    ) -> None:
        require_training()
        from fusepipe.train.baseline_session import load_baseline_config, train_baseline

        settings = load_baseline_config(baseline, config).model_copy(update=_given(steps=steps, seed=seed))
        report = train_baseline(baseline, settings, data, out, resume=resume, device=device)
        _show(report, out, as_json)
        if not as_json:
            click.echo(f"weights of step {report['step']}: {', '.join(report['onnx'])}")

    return train


for _name, _text, _data in (
    ("densefuse", "Train the DenseFuse baseline (auto-encoder) on photographs; export both its rules.", _PHOTOGRAPHS),
    ("fusiongan", "Train the FusionGAN baseline on registered pairs; export it.", _PAIRS),
    ("ddcgan", "Train the DDcGAN baseline on registered pairs; export it.", _PAIRS),
):
    command.add_command(_baseline_command(_name, _text, _data))
