"""One training run from folder to exported weights: what ``fusepipe train student`` does."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fusepipe.train.checkpoint import load_weights
from fusepipe.train.config import StudentConfig
from fusepipe.train.data import load_pairs, read_split, refuse_test_data
from fusepipe.train.export import export_onnx
from fusepipe.train.scores import mean_scores
from fusepipe.train.trainer import WEIGHTS, StudentTrainer, choose_device

ONNX = "stream.onnx"
SCORES = "scores.json"


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; only the main thread may change handlers."""
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_student(
    config: StudentConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Trains, exports ``stream.safetensors`` and ``stream.onnx`` and scores them on the validation split.

    Returns the report that is also written to ``scores.json``: ``finished``, ``step``, ``best_step``
    and, when finished, ``validation`` (metric to mean), ``weights``, ``onnx`` and ``seconds``. The
    folder ``data`` may not lie in TNO (:class:`UsageError`).
    """
    refuse_test_data(data)
    started = time.monotonic()
    train = load_pairs(data, read_split("train"), config.max_side_px)
    validation = load_pairs(data, read_split("validation"), config.max_side_px)
    trainer = StudentTrainer(config, train, validation, out, resume=resume, device=choose_device(device))
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with _stopped_by_signals() as stop, Progress(*columns, console=Console(stderr=True)) as line:
        task = line.add_task("train", total=config.steps, completed=trainer.progress.step, loss=float("nan"))
        result = trainer.run(stop, lambda step, loss: line.update(task, completed=step, loss=loss))
    report: dict[str, Any] = {
        "finished": result.finished,
        "step": result.progress.step,
        "best_step": result.progress.best_step,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not result.finished:
        return report
    network = load_weights(out / WEIGHTS)
    export_onnx(network, out / ONNX)
    report["validation"] = {k: round(v, 4) for k, v in mean_scores(network, validation).items()}
    report |= {"weights": str(out / WEIGHTS), "onnx": str(out / ONNX), "config": config.model_dump()}
    (out / SCORES).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
