"""One training run of a learned baseline, from folder to ONNX: what ``fusepipe train densefuse`` and others do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fusepipe.core.errors import SourceError
from fusepipe.train.adversarial import BaselineTrainer
from fusepipe.train.baseline_config import BaselineConfig, DdcGanConfig, DenseFuseConfig, FusionGanConfig
from fusepipe.train.baseline_export import export_baseline
from fusepipe.train.config_file import read_config
from fusepipe.train.data.folders import images_below
from fusepipe.train.data.pairs import IMAGE_SUFFIXES, Pair, load_pairs, read_photograph, read_split, refuse_test_data
from fusepipe.train.processes import require_one_process
from fusepipe.train.recipes import make_recipe
from fusepipe.train.trainer import choose_device
from fusepipe.train.watch import progress_line, stopped_by_signals

BASELINES: Mapping[str, type[BaselineConfig]] = {
    "densefuse": DenseFuseConfig,
    "fusiongan": FusionGanConfig,
    "ddcgan": DdcGanConfig,
}
"""Baseline to the kind of its configuration; the shipped one is ``configs/NAME.yaml``."""


REPORT = "report.json"
_VALIDATION_EVERY = 20


def load_baseline_config(baseline: str, name: str) -> BaselineConfig:
    """The configuration of a baseline: ``default`` is the shipped one, anything else a YAML file.

    Raises :class:`ConfigError` or :class:`UsageError` as :func:`fusepipe.train.config_file.read_config` does.
    """
    return read_config(name, {"default": baseline}, BASELINES[baseline])


def load_photographs(folder: Path, max_side_px: int) -> list[Pair]:
    """All photographs below a folder, each as a pair with itself, sorted by name.

    Raises :class:`SourceError` when there are fewer than two and :class:`UsageError` inside TNO.
    """
    paths = images_below(folder)
    if len(paths) < 2:
        raise SourceError(f"{folder}: {len(paths)} photographs ({', '.join(IMAGE_SUFFIXES)}); training needs many")
    return [read_photograph(path, max_side_px) for path in paths]


def _data(config: BaselineConfig, data: Path) -> tuple[list[Pair], list[Pair]]:
    """Training and validation data of a configuration."""
    if isinstance(config, DenseFuseConfig):
        photographs = load_photographs(data, config.max_side_px)
        validation = photographs[::_VALIDATION_EVERY]
        return [p for index, p in enumerate(photographs) if index % _VALIDATION_EVERY], validation
    train, validation = (load_pairs(data, read_split(split), config.max_side_px) for split in ("train", "validation"))
    return train, validation


def train_baseline(
    name: str, config: BaselineConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Trains the baseline ``name`` and exports it; DenseFuse gives one graph for each of its two rules.

    ``data`` holds photographs for DenseFuse, else ``DATASET/ir`` and ``DATASET/vis`` of the committed
    split; it may not lie in TNO (:class:`UsageError`). Returns the report that is also written to
    ``report.json``: ``finished``, ``step``, ``seed``, ``seconds`` and, when finished, ``validation``
    (weighted loss terms), ``onnx`` (paths) and ``config``.
    """
    refuse_test_data(data)
    require_one_process("a baseline")
    started = time.monotonic()
    train, validation = _data(config, data)
    threads = torch.get_num_threads()
    if config.threads:
        torch.set_num_threads(config.threads)
    try:
        torch.manual_seed(config.seed)
        recipe = make_recipe(config)
        trainer = BaselineTrainer(config, recipe, train, validation, out, resume=resume, device=choose_device(device))
        with stopped_by_signals() as stop, progress_line(config.steps, trainer.step) as report_step:
            finished = trainer.run(stop, report_step)
    finally:
        torch.set_num_threads(threads)
    report: dict[str, Any] = {
        "model": name,
        "finished": finished,
        "step": trainer.step,
        "seed": config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not finished:
        return report
    report["validation"] = {term: round(value, 5) for term, value in trainer.validation.items()}
    report["onnx"] = [str(path) for path in export_baseline(name, recipe.generator, out)]
    report["config"] = config.model_dump()
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
