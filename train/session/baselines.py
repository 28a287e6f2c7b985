"""One training of a learned baseline, from data folder to ONNX: ``fusepipe train densefuse`` and the others."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from fusepipe.core.files import write_text
from fusepipe.train.checkpoint import refuse_overwriting, require_checkpoint
from fusepipe.train.configs.baselines import BaselineConfig, DenseFuseConfig
from fusepipe.train.data.image_folders import VALIDATION_SHARE
from fusepipe.train.data.pairs import Pair, load_pairs, load_photographs
from fusepipe.train.data.split import BASE_SETS, read_split
from fusepipe.train.data.training_images import refuse_test_data
from fusepipe.train.device import choose_device, limit_threads
from fusepipe.train.distributed import Processes, require_one_process
from fusepipe.train.export import export_baseline
from fusepipe.train.loop import Loop, LoopSettings
from fusepipe.train.session.console import progress_bar, stop_on_signals
from fusepipe.train.tasks.baselines import baseline_task

REPORT = "report.json"


def baseline_settings(config: BaselineConfig) -> LoopSettings:
    """How the loop trains a baseline of this configuration.

    The weights of the last step are kept: the rate ends near 0, and no validation loss shows how far an adversarial
    training has come.
    """
    return LoopSettings(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        critic_learning_rate=config.learning_rate,
        seed=config.seed,
        validate_every=config.validate_every,
        keep="last",
        channels_last=False,
    )


def _load(config: BaselineConfig, data: Path) -> tuple[list[Pair], list[Pair]]:
    """Training and validation data of a configuration."""
    if isinstance(config, DenseFuseConfig):
        photographs = load_photographs(data, config.max_side_px)
        train = [p for index, p in enumerate(photographs) if index % VALIDATION_SHARE]
        return train, photographs[::VALIDATION_SHARE]
    pairs = (read_split(split, BASE_SETS) for split in ("train", "validation"))
    train, validation = (load_pairs(data, part, config.max_side_px) for part in pairs)
    return train, validation


def train_baseline(
    name: str, config: BaselineConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Trains the baseline ``name`` and exports it; DenseFuse gives one graph for each of its two rules.

    ``data`` holds photographs for DenseFuse, else ``DATASET/ir`` and ``DATASET/vis`` of the committed split. Returns
    the report that is also written to ``report.json``: ``finished``, ``step``, ``seed``, ``seconds`` and, when
    finished, ``validation`` (weighted loss terms), ``onnx`` (paths) and ``config``. Raises :class:`UsageError` for
    ``data`` inside TNO, and where there is nothing to resume.
    """
    refuse_test_data(data)
    require_one_process("a baseline")
    (require_checkpoint if resume else refuse_overwriting)(out)
    started = time.monotonic()
    processes = Processes(choose_device(device))
    train, validation = _load(config, data)
    with limit_threads(config.threads):
        torch.manual_seed(config.seed)
        task = baseline_task(config, train, validation)
        identity = config.model_dump(mode="json")
        loop = Loop(task, baseline_settings(config), out, processes, identity=identity, resume=resume)
        with stop_on_signals() as stop, progress_bar(config.steps, loop.state.step) as report_step:
            finished = loop.run(stop, report_step)
    report: dict[str, Any] = {
        "model": name,
        "finished": finished,
        "step": loop.state.step,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not finished:
        return report
    report["validation"] = {term: round(value, 5) for term, value in loop.state.validation.items()}
    report["onnx"] = [str(path) for path in export_baseline(name, loop.result, out)]
    report["config"] = config.model_dump()
    write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
    return report
