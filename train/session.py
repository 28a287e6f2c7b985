"""One training run from folder to exported weights: what ``fusepipe train student`` does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fusepipe.train.checkpoint import load_weights, read_tensors, save_weights
from fusepipe.train.config import StudentConfig
from fusepipe.train.data.pairs import halves, load_pairs, read_split, refuse_test_data
from fusepipe.train.export import export_student
from fusepipe.train.networks.student import average, finish
from fusepipe.train.processes import require_one_process
from fusepipe.train.scores import mean_scores
from fusepipe.train.trainer import BEST, EARLIER, StudentTrainer, choose_device
from fusepipe.train.watch import progress_line, stopped_by_signals

SCORES = "scores.json"


def _as_text(config: StudentConfig, averaged: float) -> dict[str, str]:
    """What was done to the weights in the end, for their metadata."""
    done = config.finish.model_dump() | {"earlier": averaged}
    return {key: str(value) for key, value in done.items()}


def train_student(
    config: StudentConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Trains, exports ``MODEL.safetensors`` and ``MODEL.onnx`` and scores them on the validation split.

    Returns the report that is also written to ``scores.json``: ``finished``, ``step``, ``best_step``
    and, when finished, ``validation`` (metric to mean), ``weights``, ``onnx`` and ``seconds``. The
    folder ``data`` may not lie in TNO (:class:`UsageError`).
    """
    refuse_test_data(data)
    require_one_process("a student")
    started = time.monotonic()
    train = load_pairs(data, read_split("train"), config.max_side_px)
    if config.halves:
        train += halves(train, config.crop_px)
    validation = load_pairs(data, read_split("validation"), config.max_side_px)
    trainer = StudentTrainer(config, train, validation, out, resume=resume, device=choose_device(device))
    with stopped_by_signals() as stop, progress_line(config.steps, trainer.progress.step) as report_step:
        result = trainer.run(stop, report_step)
    report: dict[str, Any] = {
        "finished": result.finished,
        "step": result.progress.step,
        "best_step": result.progress.best_step,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not result.finished:
        return report
    network = load_weights(out / BEST)
    averaged = config.finish.earlier if (out / EARLIER).exists() else 0.0  # a short run never came to that step
    if averaged:
        average(network, load_weights(out / EARLIER), averaged)
    finish(network, config.finish.mixing, config.finish.detail)
    weights, graph = (out / f"{config.model}.{suffix}" for suffix in ("safetensors", "onnx"))
    save_weights(weights, network, {**read_tensors(out / BEST)[1], **_as_text(config, averaged)})
    export_student(network, graph, config.model)
    report["validation"] = {k: round(v, 4) for k, v in mean_scores(network, validation).items()}
    report |= {"weights": str(weights), "onnx": str(graph), "config": config.model_dump()}
    (out / SCORES).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
