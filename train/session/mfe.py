"""Trainings of ``mfe`` from data folders to exported weights: ``fusepipe train mfe`` and its stages."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fusepipe.core.errors import UsageError
from fusepipe.core.files import write_text
from fusepipe.train.checkpoint import require_checkpoint, require_same
from fusepipe.train.configs.mfe import FusionStageConfig, MfeConfig, NetworkParts, Stage1Config, StageConfig
from fusepipe.train.data.crops import read_pair
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import PAIRS, PairFiles, Split, photographs
from fusepipe.train.data.pairs import Pair
from fusepipe.train.device import choose_device, limit_threads
from fusepipe.train.distributed import Processes, process_group
from fusepipe.train.export import export_attention, export_mfe
from fusepipe.train.loop import Loop, LoopSettings
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.session.console import progress_bar, stop_on_signals
from fusepipe.train.tasks.autoencoder import AutoEncoderTask
from fusepipe.train.tasks.base import Task
from fusepipe.train.tasks.fusion import FusionTask
from fusepipe.train.tensors import weights_hash
from fusepipe.train.validation import mean_scores
from fusepipe.train.weights import initial_mfe, load_mfe, save_mfe

FusionStage = Literal["attention", "finetune"]
WEIGHTS, ONNX, REPORT = "mfe.safetensors", "mfe.onnx", "report.json"
ATTENTION_ONNX = "mfe-attention.onnx"


def mfe_settings(config: StageConfig, critic_learning_rate: float = 0.0) -> LoopSettings:
    """How the loop trains a stage of this configuration."""
    return LoopSettings(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        critic_learning_rate=critic_learning_rate,
        seed=config.seed,
        validate_every=config.validate_every,
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        precision=config.precision,
        patience=config.patience,
    )


class MfeSession:
    """The stages of one training, which share the processes, the stop event and whether to resume."""

    def __init__(self, processes: Processes, stop: threading.Event, *, resume: bool) -> None:
        self.processes, self.stop, self.resume = processes, stop, resume

    def stage1(self, config: Stage1Config, parts: NetworkParts, folder: Path, out: Path) -> dict[str, Any]:
        """The auto-encoder on the photographs below ``folder``; leaves ``mfe.safetensors`` in ``out``."""
        parts = NetworkParts(dense=parts.dense, skips=parts.skips, attention=False)
        files = photographs(folder, most=config.images, most_validation=config.validation_images)
        identity = {**config.fixed(), **_identity(files, parts)}
        if report := self._completed(out, identity):
            return report
        images = DecodedImages(config.max_side_px)
        images.arrays.trim()
        with limit_threads(config.threads):
            torch.manual_seed(config.seed)
            network = parts.build()
            task = AutoEncoderTask(config, network, files, images)
            settings = mfe_settings(config, critic_learning_rate=config.critic_learning_rate)
            loop = self._loop(task, settings, out, identity)
            report = self._run("stage 1", loop, config)
        if report["finished"] and self.processes.first:
            trained = loop.result.cpu()
            network.autoencoder.load_state_dict(trained.state_dict())
            self._keep(out, network, report, config, identity)
        return report

    def fusion(
        self, stage: FusionStage, config: FusionStageConfig, parts: NetworkParts, start: Path, data: Path, out: Path
    ) -> dict[str, Any]:
        """Attention or fine-tuning on the pairs of ``data``, starting from the weights ``start``.

        Leaves ``mfe.safetensors`` in ``out``. Raises :class:`UsageError` where there is nothing to train, and
        where ``start`` is a network of other parts.
        """
        if stage == "attention" and not parts.attention:
            raise UsageError("network.attention: false leaves no attention to train: use 'fusepipe train finetune'")
        files = PAIRS[config.pairs](data, most_validation=config.validation_images)
        identity = {**config.fixed(), **_identity(files, parts), "start": weights_hash(start)}
        if report := self._completed(out, identity):
            return report
        images = DecodedImages(config.max_side_px)
        images.arrays.trim()
        with limit_threads(config.threads):
            torch.manual_seed(config.seed)
            network = initial_mfe(start, parts)
            task = FusionTask(config, network, files, images, attention_only=stage == "attention")
            loop = self._loop(task, mfe_settings(config), out, identity)
            report = self._run(stage, loop, config)
            if report["finished"] and self.processes.first:
                trained = loop.result.cpu()
                assert isinstance(trained, MfeNet)
                report["validation"] = _scores(trained, files, images)
                self._keep(out, trained, report, config, identity)
        return report

    def _loop(self, task: Task, settings: LoopSettings, out: Path, identity: dict[str, Any]) -> Loop:
        return Loop(task, settings, out, self.processes, identity=identity, resume=self.resume)

    def _run(self, name: str, loop: Loop, config: StageConfig) -> dict[str, Any]:
        began, first_step = time.monotonic(), loop.state.step
        if self.processes.first:
            with progress_bar(config.steps, first_step) as line:
                finished = loop.run(self.stop, line)
        else:
            finished = loop.run(self.stop)
        return {
            "stage": name,
            "finished": finished,
            "step": loop.state.step,
            "best_step": loop.state.best_step,
            "best_loss": loop.state.best_loss,
            "seed": config.seed,
            "steps_here": loop.state.step - first_step,
            "seconds_here": round(time.monotonic() - began, 1),
        }

    def _keep(
        self, out: Path, network: MfeNet, report: dict[str, Any], config: StageConfig, identity: dict[str, Any]
    ) -> None:
        metadata = {"stage": report["stage"], "steps": str(report["best_step"]), "seed": str(config.seed)}
        save_mfe(out / WEIGHTS, network, metadata)
        report["weights"] = str(out / WEIGHTS)
        report["config"] = config.model_dump(mode="json")
        report |= {key: value for key, value in identity.items() if key not in report["config"]}
        write_text(out / REPORT, json.dumps(report, indent=2) + "\n")

    def _completed(self, out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Report of a completed stage to resume from; None if its outputs are missing.

        Raises :class:`UsageError` where it was trained with another configuration or other data.
        """
        if not self.resume or not (out / WEIGHTS).exists():
            return None
        try:
            report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
            saved = {**report["config"], **report}
        except (OSError, ValueError, TypeError, KeyError):
            return None  # missing or truncated: it is written again from the checkpoint
        require_same(out, saved, identity)
        if not self.processes.first:
            return {key: value for key, value in report.items() if key != "weights"}
        return {**report, "weights": str(out / WEIGHTS)}


@contextmanager
def mfe_session(device: str, out: Path, *, resume: bool) -> Iterator[MfeSession]:
    """A session of this process, or of all that ``torchrun`` started; Ctrl-C stops it between two steps.

    Raises :class:`UsageError` with ``resume`` where ``out`` holds no checkpoint.
    """
    if resume:
        require_checkpoint(out)
    with process_group(choose_device(device)) as processes, stop_on_signals() as stop:
        yield MfeSession(processes, stop, resume=resume)


def train_stage1(
    config: MfeConfig, folder: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Stage 1 alone; see :meth:`MfeSession.stage1`."""
    with mfe_session(device, out, resume=resume) as this:
        return this.stage1(config.stage1, config.network, folder, out)


def train_fusion(
    name: FusionStage,
    config: MfeConfig,
    start: Path,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Attention or fine-tuning alone, and its graph ``mfe.onnx``; see :meth:`MfeSession.fusion`."""
    with mfe_session(device, out, resume=resume) as this:
        settings = config.attention if name == "attention" else config.finetune
        report = this.fusion(name, settings, config.network, start, data, out)
        return _exported(report, out) if this.processes.first else report


def train_mfe(
    config: MfeConfig, folder: Path, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """All stages, each in a folder of its own in ``out``, and the graph of the last one in its folder.

    ``folder`` holds photographs, ``data`` registered pairs; neither may lie in TNO. Without attention
    (``network.attention: false``) its stage is skipped. Returns the last stage's report.
    """
    with mfe_session(device, out, resume=resume) as this:
        report = this.stage1(config.stage1, config.network, folder, out / "stage1")
        last = out / "stage1"
        stages: list[tuple[FusionStage, FusionStageConfig]] = [("finetune", config.finetune)]
        if config.network.attention:
            stages.insert(0, ("attention", config.attention))
        for name, settings in stages:
            if not report["finished"]:
                return report
            this.processes.barrier()  # until process 0 has written the weights
            report = this.fusion(name, settings, config.network, last / WEIGHTS, data, out / name)
            last = out / name
        return _exported(report, last) if this.processes.first else report


def _exported(report: dict[str, Any], out: Path) -> dict[str, Any]:
    if report["finished"]:
        network = load_mfe(out / WEIGHTS)
        export_mfe(network, out / ONNX)
        report["onnx"] = str(out / ONNX)
        if network.attention is not None:
            export_attention(network, out / ATTENTION_ONNX)
    return report


def _identity(files: Split[Path] | Split[PairFiles], parts: NetworkParts) -> dict[str, Any]:
    """The data and parts of a run, which must be equal when it is resumed."""
    names = json.dumps([[str(path) for path in ([item] if isinstance(item, Path) else item)] for item in files.train])
    return {
        "network": parts.model_dump(mode="json"),
        "files": len(files.train),
        "of": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _scores(network: MfeNet, files: Split[PairFiles], images: DecodedImages) -> dict[str, float]:
    pairs = [Pair(str(found[1]), *map(np.array, read_pair(images, found))) for found in files.validation]
    return {name: round(value, 4) for name, value in mean_scores(network, pairs).items()}
