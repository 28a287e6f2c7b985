"""One training of a student, from data folder to exported weights: what ``fusepipe train student`` does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

from torch import nn

from fusepipe.core.files import write_text
from fusepipe.train.checkpoint import refuse_overwriting, require_checkpoint
from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.images import refuse_test_data
from fusepipe.train.data.pairs import halves, load_pairs
from fusepipe.train.data.split import read_split
from fusepipe.train.device import choose_device
from fusepipe.train.distributed import Processes, require_one_process
from fusepipe.train.export import export_student
from fusepipe.train.loop import Loop, LoopSettings
from fusepipe.train.networks.branches import folded
from fusepipe.train.networks.student import StudentNet, average, finish
from fusepipe.train.scores import mean_scores
from fusepipe.train.session.console import progress_bar, stop_on_signals
from fusepipe.train.tasks.student import StudentTask, initial_student
from fusepipe.train.weights import save_student

SCORES = "scores.json"


def student_settings(config: StudentConfig) -> LoopSettings:
    """How the loop trains a student of this configuration."""
    return LoopSettings(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        seed=config.seed,
        validate_every=config.validate_every,
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        snapshot_step=config.finish.earlier_step if config.finish.earlier else 0,
    )


def train_student(
    config: StudentConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Trains, exports ``MODEL.safetensors`` and ``MODEL.onnx`` and scores them on the validation split.

    Returns the report that is also written to ``scores.json``: ``finished``, ``step``, ``best_step`` and, when
    finished, ``validation`` (metric to mean), ``weights``, ``onnx`` and ``seconds``. Raises :class:`UsageError` for
    ``data`` inside TNO, and where there is nothing to resume.
    """
    refuse_test_data(data)
    require_one_process("a student")
    (require_checkpoint if resume else refuse_overwriting)(out)
    started = time.monotonic()
    processes = Processes(choose_device(device))
    network = initial_student(config, start=not resume)
    train = load_pairs(data, read_split("train"), config.max_side_px)
    if config.halves:
        train += halves(train, config.crop_px)
    validation = load_pairs(data, read_split("validation"), config.max_side_px)
    task = StudentTask(config, network, train, validation, processes.device)
    identity = config.model_dump(mode="json")
    loop = Loop(task, student_settings(config), out, processes, identity=identity, resume=resume)
    with stop_on_signals() as stop, progress_bar(config.steps, loop.progress.step) as report_step:
        finished = loop.run(stop, report_step)
    report: dict[str, Any] = {
        "finished": finished,
        "step": loop.progress.step,
        "best_step": loop.progress.best_step,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not finished:
        return report
    trained, metadata = _finished_student(config, loop)
    weights, graph = (out / f"{config.model}.{suffix}" for suffix in ("safetensors", "onnx"))
    save_student(weights, trained, metadata)
    export_student(trained, graph, config.model)
    report["validation"] = {k: round(v, 4) for k, v in mean_scores(trained, validation).items()}
    report |= {"weights": str(weights), "onnx": str(graph), "config": config.model_dump()}
    write_text(out / SCORES, json.dumps(report, indent=2) + "\n")
    return report


def _finished_student(config: StudentConfig, loop: Loop) -> tuple[StudentNet, dict[str, str]]:
    """The best weights in the plain network's form, finished as configured, and the metadata of their file."""
    network = plain_student(loop.result)
    share = config.finish.earlier if loop.snapshot is not None else 0.0
    if loop.snapshot is not None:
        average(network, plain_student(loop.snapshot), share)
    finish(network, config.finish.mixing, config.finish.detail)
    done = config.finish.model_dump() | {"earlier": share}
    metadata = {"model": config.model, "steps": str(loop.progress.best_step), "seed": str(config.seed)}
    return network, metadata | {key: str(value) for key, value in done.items()}


def plain_student(network: nn.Module) -> StudentNet:
    """A trained student without its branches, contiguous and on the CPU, in evaluation mode."""
    trained = folded(cast(StudentNet, network))
    plain = StudentNet(trained.channels, len(trained.encoder), len(trained.decoder))
    plain.load_state_dict(trained.state_dict())  # a new network: the exporter fails on channels_last weights
    return plain.eval()
