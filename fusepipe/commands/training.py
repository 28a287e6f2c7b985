"""What the trainings have in common on the command line: their options, and how a run is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click

from fusepipe.errors import EngineError, Interrupted

Function = TypeVar("Function", bound=Callable[..., Any])

PAIRS = "Folder with DATASET/ir and DATASET/vis of the committed split."
PHOTOGRAPHS = "Folder of photographs, searched with all below it."

_NEEDED = ("torch", "safetensors", "onnx", "onnxscript", "tensorboard")


def require_training() -> None:
    """Raises :class:`EngineError` with the line that installs what training needs."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(f"training needs {', '.join(missing)}: pip install 'fusepipe[train]'")


def run_options(data_help: str) -> Callable[[Function], Function]:
    """The options of every run: from what, to where, on what."""
    return _decorated(
        click.option("--config", default="default", show_default=True, help="'default' or a YAML file."),
        click.option("--data", required=True, type=click.Path(path_type=Path), help=data_help),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    )


def step_options() -> Callable[[Function], Function]:
    """The options of a run of one stage."""
    return _decorated(
        click.option("--steps", type=click.IntRange(min=1), help="Instead of the configuration's steps."),
        click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's seed."),
    )


def _decorated(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def given(**options: int | None) -> dict[str, int]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    """Prints a finished run; raises :class:`Interrupted` for a stopped one."""
    if not report["finished"]:
        raise Interrupted(f"stopped at step {report['step']}; go on with --resume --out {out}")
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report.get("validation", {}).items():
        click.echo(f"{name:5} {value:.3f}")
