"""Trainings of ``mfe`` from folders to exported weights: what ``fusepipe train stage1`` and others do."""

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
from fusepipe.train.checkpoint import fingerprint, require_same
from fusepipe.train.data.crops import read_pair
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.folders import PAIRS, PairFiles, Split, photographs
from fusepipe.train.data.pairs import Pair
from fusepipe.train.export import write_graph
from fusepipe.train.loop import Loop
from fusepipe.train.mfe_weights import begin_fusion, load_mfe, save_mfe
from fusepipe.train.networks.mfe import AttentionShare, MfeNet
from fusepipe.train.processes import Processes, joined
from fusepipe.train.run_config import FusionConfig, MfeConfig, Network, RunConfig, Stage1Config
from fusepipe.train.scores import mean_scores
from fusepipe.train.stages import AutoEncoderStage, FusionStage
from fusepipe.train.trainer import choose_device
from fusepipe.train.watch import progress_line, stopped_by_signals

FusionName = Literal["attention", "finetune"]
WEIGHTS, ONNX, REPORT = "mfe.safetensors", "mfe.onnx", "report.json"
ATTENTION_ONNX = "mfe-attention.onnx"


class Session:
    """What the stages of one training share: the processes, the device, when to stop, who is told."""

    def __init__(self, processes: Processes, stop: threading.Event, *, resume: bool) -> None:
        self.processes, self.stop, self.resume = processes, stop, resume

    def stage1(self, config: Stage1Config, parts: Network, folder: Path, out: Path) -> dict[str, Any]:
        """The auto-encoder on the photographs below ``folder``; leaves ``mfe.safetensors`` in ``out``."""
        parts = Network(dense=parts.dense, skips=parts.skips, attention=False)  # the others come later
        files = photographs(folder, most=config.images, most_validation=config.validation_images)
        identity = _identity(files, parts)
        if done := self._finished(out, config, identity):
            return done
        with _threads(config.threads):
            torch.manual_seed(config.seed)
            network = parts.build()
            stage = AutoEncoderStage(config, network, files, DecodedImages(config.max_side_px))
            loop = Loop(stage, config, out, self.processes, resume=self.resume, identity=identity)
            report = self._run("stage 1", loop, config)
        if report["finished"] and self.processes.first:
            trained = loop.result.cpu()
            network.autoencoder.load_state_dict(trained.state_dict())
            self._keep(out, network, report, config, identity)
        return report

    def fusion(
        self, stage_name: FusionName, config: FusionConfig, parts: Network, start: Path, data: Path, out: Path
    ) -> dict[str, Any]:
        """Attention or fine-tuning on the pairs of ``data``, beginning with the weights ``start``.

        Leaves ``mfe.safetensors`` in ``out``. Raises :class:`UsageError` where there is nothing to train, and
        where ``start`` is a network of other parts.
        """
        if stage_name == "attention" and not parts.attention:
            raise UsageError(
                "network.attention: false leaves no attention to train: go on with 'fusepipe train finetune'"
            )
        files = PAIRS[config.pairs](data, most_validation=config.validation_images)
        identity = {**_identity(files, parts), "start": fingerprint(start)}
        if done := self._finished(out, config, identity):
            return done
        images = DecodedImages(config.max_side_px)
        with _threads(config.threads):
            torch.manual_seed(config.seed)
            network = begin_fusion(start, parts)
            stage = FusionStage(config, network, files, images, attention_only=stage_name == "attention")
            loop = Loop(stage, config, out, self.processes, resume=self.resume, identity=identity)
            report = self._run(stage_name, loop, config)
            if report["finished"] and self.processes.first:
                trained = loop.result.cpu()
                assert isinstance(trained, MfeNet)
                report["validation"] = _scores(trained, files, images)
                self._keep(out, trained, report, config, identity)
        return report

    def _run(self, name: str, loop: Loop, config: RunConfig) -> dict[str, Any]:
        began, first_step = time.monotonic(), loop.progress.step
        if self.processes.first:
            with progress_line(config.steps, first_step) as line:
                finished = loop.run(self.stop, line)
        else:
            finished = loop.run(self.stop)
        return {
            "stage": name,
            "finished": finished,
            "step": loop.progress.step,
            "best_step": loop.progress.best_step,
            "best_loss": loop.progress.best_loss,
            "seed": config.seed,
            "steps_here": loop.progress.step - first_step,
            "seconds_here": round(time.monotonic() - began, 1),
        }

    def _keep(
        self, out: Path, network: MfeNet, report: dict[str, Any], config: RunConfig, identity: dict[str, Any]
    ) -> None:
        metadata = {"stage": report["stage"], "steps": str(report["best_step"]), "seed": str(config.seed)}
        save_mfe(out / WEIGHTS, network, metadata)
        report["weights"] = str(out / WEIGHTS)
        report["config"] = config.model_dump(mode="json")
        report |= identity
        (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    def _finished(self, out: Path, config: RunConfig, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The report of a stage that is done already and is to be gone on from, unless what it made is lost.

        Raises :class:`UsageError` where it was done with another configuration, or with other data.
        """
        if not self.resume or not (out / WEIGHTS).exists():
            return None
        try:
            report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
            done = {**report["config"], **report}
        except (OSError, ValueError, TypeError, KeyError):
            return None  # not there, or cut off: the checkpoint has all that it takes to make it anew
        require_same(out, done, {**config.fixed(), **{k: v for k, v in identity.items() if k in done}})
        if not self.processes.first:
            return {key: value for key, value in report.items() if key != "weights"}
        return {**report, "weights": str(out / WEIGHTS)}


@contextmanager
def session(device: str, out: Path, *, resume: bool) -> Iterator[Session]:
    """A session of this process, or of all that ``torchrun`` started; Ctrl-C stops it between two steps.

    Raises :class:`UsageError` where nothing below ``out`` can be resumed.
    """
    if resume and not any(out.glob("**/checkpoints/*")):
        raise UsageError(f"there is nothing to resume in {out}: leave --resume out, or name the folder of a run")
    with joined(choose_device(device)) as processes, stopped_by_signals() as stop:
        yield Session(processes, stop, resume=resume)


def train_stage1(
    config: MfeConfig, folder: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Stage 1 alone; see :meth:`Session.stage1`."""
    with session(device, out, resume=resume) as this:
        return this.stage1(config.stage1, config.network, folder, out)


def train_fusion(
    name: FusionName,
    config: MfeConfig,
    start: Path,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Attention or fine-tuning alone, and its graph ``mfe.onnx``; see :meth:`Session.fusion`."""
    with session(device, out, resume=resume) as this:
        settings = config.attention if name == "attention" else config.finetune
        report = this.fusion(name, settings, config.network, start, data, out)
        return _exported(report, out) if this.processes.first else report


def train_mfe(
    config: MfeConfig, folder: Path, data: Path, out: Path, *, resume: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """All stages, each in a folder of its own in ``out``, and the graph of the last one there.

    ``folder`` holds photographs, ``data`` registered pairs; neither may lie in TNO. Without attention
    (``network.attention: false``) its stage is left out. Returns the last stage's report.
    """
    with session(device, out, resume=resume) as this:
        report = this.stage1(config.stage1, config.network, folder, out / "stage1")
        last = out / "stage1"
        stages: list[tuple[FusionName, FusionConfig]] = [("finetune", config.finetune)]
        if config.network.attention:
            stages.insert(0, ("attention", config.attention))
        for name, settings in stages:
            if not report["finished"]:
                return report
            this.processes.mean(torch.zeros(1, device=this.processes.device))  # the others wait for the weights
            report = this.fusion(name, settings, config.network, last / WEIGHTS, data, out / name)
            last = out / name
        return _exported(report, last) if this.processes.first else report


def export_mfe(network: MfeNet, path: Path) -> None:
    """Writes the network as a graph for any size; see :func:`fusepipe.train.export.write_graph`."""
    write_graph(network.eval(), path, {"model": "mfe"})


def export_attention(network: MfeNet, path: Path) -> None:
    """Writes a graph of the same inputs that gives the share of the infrared in each pixel, mean over the maps."""
    write_graph(AttentionShare(network).eval(), path, {"model": "mfe-attention"}, half=True)


def _exported(report: dict[str, Any], out: Path) -> dict[str, Any]:
    if report["finished"]:
        network = load_mfe(out / WEIGHTS)
        export_mfe(network, out / ONNX)
        report["onnx"] = str(out / ONNX)
        if network.attention is not None:
            export_attention(network, out / ATTENTION_ONNX)
    return report


def _identity(files: Split[Path] | Split[PairFiles], parts: Network) -> dict[str, Any]:
    """What the run is trained on, as it is checked when it is resumed."""
    names = json.dumps([[str(path) for path in ([item] if isinstance(item, Path) else item)] for item in files.train])
    return {
        "network": parts.model_dump(mode="json"),
        "files": len(files.train),
        "of": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _scores(network: MfeNet, files: Split[PairFiles], images: DecodedImages) -> dict[str, float]:
    pairs = [Pair(str(found[1]), *map(np.array, read_pair(images, found))) for found in files.validation]
    return {name: round(value, 4) for name, value in mean_scores(network, pairs).items()}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
