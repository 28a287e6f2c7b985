"""Options and output that the training commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.options import examples
from fusepipe.core.errors import EngineError, Interrupted

if TYPE_CHECKING:
    from fusepipe.train.configs.mfe import MfeConfig
    from fusepipe.train.session.mfe import FusionStage

PAIRS = "Folder with DATASET/ir and DATASET/vis of the committed split."
PHOTOGRAPHS = "Folder of photographs, searched recursively."

_NEEDED = ("torch", "safetensors", "onnx", "onnxscript", "tensorboard")


def require_training() -> None:
    """Raises :class:`EngineError` with the install command where a package of the extra ``train`` is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(f"training needs {', '.join(missing)}: pip install 'fusepipe[train]'")


@dataclass(frozen=True, slots=True)
class Run:
    """The options of a training: configuration, data, output folder, device."""

    config: str
    data: Path
    out: Path
    device: str
    resume: bool
    as_json: bool
    steps: int | None = None
    seed: int | None = None

    @property
    def changes(self) -> dict[str, int]:
        """Values of the configuration that the command line overrides."""
        given = {"steps": self.steps, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}

    def show(self, report: dict[str, Any]) -> None:
        """Prints the report of a finished run; raises :class:`Interrupted` for a stopped one."""
        if not report["finished"]:
            raise Interrupted(f"stopped at step {report['step']}; continue with --resume --out {self.out}")
        if self.as_json:
            click.echo(json.dumps(report, indent=2))
            return
        for name, value in report.get("validation", {}).items():
            click.echo(f"{name:5} {value:.3f}")


def run_options(
    data_help: str, *, steps: bool = True, seed: bool = True, parallel: bool = False
) -> Callable[[Callable[..., None]], Any]:
    """Adds the options of a run; the function gets them as its first argument, a :class:`Run`.

    ``parallel``: it may run in several processes, also on Ray, each of which calls the function.
    """
    options = [
        click.option("--config", default="default", help="'default' or a YAML file."),
        click.option("--data", required=True, type=click.Path(path_type=Path), help=data_help),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--device", default="auto", help="auto, cpu or cuda."),
        click.option("--resume", is_flag=True, help="Continue from the checkpoint in --out."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output."),
    ]
    if steps:
        options.append(click.option("--steps", type=click.IntRange(min=1), help="Overrides the configuration's steps."))
    if seed:
        options.append(
            click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Overrides the configuration's seed.")
        )

    if parallel:
        options += [
            click.option("--ray-workers", type=click.IntRange(min=1), help="Train in so many processes, with Ray."),
            click.option("--ray", metavar="ADDRESS", help="A Ray cluster: auto, or HOST:PORT.", show_default="here"),
        ]

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def with_run(ray_workers: int | None = None, ray: str | None = None, **options: Any) -> None:
            run = Run(**{field.name: options.pop(field.name) for field in fields(Run) if field.name in options})
            if ray is not None and ray_workers is None:
                raise click.UsageError("--ray needs --ray-workers, the number of training processes")
            if ray_workers is None:
                function(run, **options)
                return
            require_training()
            from fusepipe.train.ray_workers import RayWorkers, train_on_ray

            def train(resume: bool) -> None:
                function(replace(run, resume=resume), **options)

            workers = RayWorkers(ray_workers, ray, gpus=run.device == "cuda")
            train_on_ray(train, workers, run.out, resume=run.resume)

        command: Any = with_run
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def baseline_command(baseline: str, short: str, text: str, data_help: str) -> click.Command:
    """The command that trains one learned baseline; ``short`` is its line in the list of commands."""

    example = f"fusepipe train {baseline} --data DATA --out runs/{baseline}"

    @click.command(baseline, help=text, short_help=short, epilog=examples(example))
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


def fusion_command(name: FusionStage, short: str, text: str) -> click.Command:
    """The command that trains one of the stages of ``mfe`` that need the weights of the stage before."""

    example = f"fusepipe train {name} --start runs/stage1/mfe.safetensors --data DATA --out runs/{name}"

    @click.command(name, help=text, short_help=short, epilog=examples(example))
    @run_options(PAIRS, parallel=True)
    @click.option("--start", required=True, type=click.Path(path_type=Path), help="Weights of the previous stage.")
    def train(run: Run, start: Path) -> None:
        require_training()
        from fusepipe.train.session.mfe import train_fusion

        settings = mfe_config(run, (name,))
        show_mfe(run, train_fusion(name, settings, start, run.data, run.out, resume=run.resume, device=run.device))

    return train


def mfe_config(run: Run, sections: tuple[str, ...]) -> MfeConfig:
    """The configuration of ``mfe`` with the overrides of the command line in these sections."""
    from fusepipe.train.configs.mfe import load_mfe_config

    settings = load_mfe_config(run.config)
    changed = {section: getattr(settings, section).model_copy(update=run.changes) for section in sections}
    return settings.model_copy(update=changed)


def show_mfe(run: Run, report: dict[str, Any]) -> None:
    """Prints the report of a training of ``mfe``."""
    if "weights" not in report and report["finished"]:
        return  # of several processes only process 0 has a complete report
    run.show(report)
    if not run.as_json:
        files = [report["weights"], *([report["onnx"]] if "onnx" in report else [])]
        click.echo(f"weights of step {report['best_step']}: {', '.join(files)}")
