"""One training with a teacher, from data folder to exported weights: what ``fusepipe train student`` does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from fusepipe.core.errors import UsageError
from fusepipe.core.files import write_text
from fusepipe.core.suggest import did_you_mean
from fusepipe.train.checkpoint import refuse_overwriting, require_checkpoint
from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.detector_scenes import detector_scenes
from fusepipe.train.data.image_folders import PairFiles
from fusepipe.train.data.pairs import load_pairs
from fusepipe.train.data.split import SplitName, read_split
from fusepipe.train.data.teacher_pairs import FORMS, DistillationPair, Teacher, distillation_pairs, split_files
from fusepipe.train.data.training_images import refuse_test_data
from fusepipe.train.device import choose_device
from fusepipe.train.distributed import Processes, require_one_process
from fusepipe.train.export import export_attention, export_mfe, export_pyramid
from fusepipe.train.loop import Loop, LoopSettings
from fusepipe.train.networks.detector import Detector
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.networks.pyramid import PyramidNet
from fusepipe.train.session.console import preparation_bar, progress_bar, stop_on_signals
from fusepipe.train.session.mfe import ATTENTION_ONNX
from fusepipe.train.tasks.detection import DetectionTerm
from fusepipe.train.tasks.student import StudentTask, initial_path, new_student
from fusepipe.train.tensors import weights_hash
from fusepipe.train.validation import mean_scores
from fusepipe.train.weights import load_mfe, save_mfe, save_student

SCORES = "scores.json"
TEACHER = "mfe-first"
_WARM_UP, _SECOND_MOMENT_DECAY = 0.1, 0.99


def student_settings(config: StudentConfig) -> LoopSettings:
    """How the loop trains a student of this configuration.

    The average at the last step is kept: the rate ends near 0, and the validation loss knows neither the teacher nor
    the detector.
    """
    return LoopSettings(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        warm_up=_WARM_UP,
        second_moment_decay=_SECOND_MOMENT_DECAY,
        seed=config.seed,
        validate_every=config.validate_every,
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        precision=config.precision,
        keep="last",
    )


def train_student(
    config: StudentConfig,
    data: Path,
    out: Path,
    *,
    detector: Path | None = None,
    resume: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Trains, exports ``MODEL.safetensors`` and ``MODEL.onnx`` and scores them on the validation split.

    ``detector`` is a YOLOX file (``.onnx``) for the detection term, which is off without one. Returns the report that
    is also written to ``scores.json``: ``finished``, ``step``, ``seed``, ``detector`` (path or None) and, when
    finished, ``validation`` (metric to mean), ``weights``, ``onnx`` and ``seconds``. Raises :class:`UsageError` for
    ``data`` inside TNO, and where there is nothing to resume.
    """
    refuse_test_data(data)
    require_one_process("a student")
    (require_checkpoint if resume else refuse_overwriting)(out)
    started = time.monotonic()
    processes = Processes(choose_device(device))
    used = detector is not None and config.detection.weight > 0
    sees = Detector(detector, processes.device) if detector is not None and used else None
    network = new_student(config, start=not resume)
    train = split_files(data, _split("train", config))
    validation = load_pairs(data, _split("validation", config), config.max_side_px)
    teacher = Teacher(teacher_graph())
    rivals = [Teacher(rival_content(file)) for file in config.rivals]
    distilled = _distillation_pairs(train, config, teacher)
    term = _detection(sees, train, config, processes.device) if sees is not None else None
    task = StudentTask(config, network, distilled, validation, term, rivals)
    networks = {"teacher_file": teacher.fingerprint, "rival_files": [rival.fingerprint for rival in rivals]}
    identity = config.model_dump(mode="json") | networks | _given(config, detector)
    loop = Loop(task, student_settings(config), out, processes, identity=identity, resume=resume)
    with stop_on_signals() as stop, progress_bar(config.steps, loop.state.step) as report_step:
        finished = loop.run(stop, report_step)
    report: dict[str, Any] = {
        "finished": finished,
        "step": loop.state.step,
        "seed": config.seed,
        "detector": str(detector) if detector is not None else None,
        "seconds": round(time.monotonic() - started, 1),
    }
    if not finished:
        return report
    weights, graph = (out / f"{config.model}.{suffix}" for suffix in ("safetensors", "onnx"))
    metadata = {"model": config.model, "steps": str(loop.state.step), "seed": str(config.seed)}
    trained = _kept(loop.result.cpu(), weights, graph, metadata)
    report["validation"] = {k: round(v, 4) for k, v in mean_scores(trained, validation).items()}
    report |= {"weights": str(weights), "onnx": str(graph), "config": config.model_dump()}
    write_text(out / SCORES, json.dumps(report, indent=2) + "\n")
    return report


def _kept(trained: nn.Module, weights: Path, graph: Path, metadata: Mapping[str, str]) -> PyramidNet | MfeNet:
    """Writes a trained network and its graphs; returns it in evaluation mode."""
    if isinstance(trained, PyramidNet):
        plain = plain_student(trained)
        save_student(weights, plain, metadata)
        export_pyramid(plain, graph, metadata["model"])
        return plain
    assert isinstance(trained, MfeNet)
    save_mfe(weights, trained, metadata)
    network = load_mfe(weights)  # a new network: the exporter fails on channels_last weights
    export_mfe(network, graph)
    if network.attention is not None:
        export_attention(network, graph.parent / ATTENTION_ONNX)
    return network


def teacher_graph() -> bytes:
    """The ONNX file of the teacher, ``mfe`` after its first stage."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mfe.onnx"
        export_mfe(load_mfe(initial_path(TEACHER)), file)
        return file.read_bytes()


def _split(split: SplitName, config: StudentConfig) -> list[tuple[str, str]]:
    """The pairs of the configuration's sets; raises :class:`UsageError` for a set without pairs."""
    pairs = read_split(split)
    known = {dataset for dataset, _ in pairs}
    for name in config.sets:
        if name not in known:
            raise UsageError(f"sets: {name!r} is not a data set of the split: {did_you_mean(name, sorted(known))}")
    return [(dataset, stem) for dataset, stem in pairs if config.sets.get(dataset)]


def _distillation_pairs(
    train: Mapping[tuple[str, str], PairFiles], config: StudentConfig, teacher: Teacher
) -> list[DistillationPair]:
    """The training pairs in the forms that the configuration draws."""
    images = DecodedImages(config.max_side_px)
    images.arrays.trim()
    if config.batch > 1 and all(min(images[visible].shape) < config.crop_px for _, visible in train.values()):
        raise UsageError(f"crop_px: no training image is as large as {config.crop_px} px")
    forms = [form for form in FORMS if getattr(config.forms, form)]
    pairs = distillation_pairs(train, forms, teacher, images)
    return list(preparation_bar("teacher's images", pairs, len(train) * len(forms)))


def rival_content(file: str) -> bytes:
    """The ONNX file of a rival; raises :class:`UsageError` where it cannot be read."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"rivals: {file}: cannot be read ({error.strerror}): give the paths of ONNX files") from error


def _detection(
    detector: Detector, train: Mapping[tuple[str, str], PairFiles], config: StudentConfig, device: torch.device
) -> DetectionTerm:
    seen = preparation_bar("detector", detector_scenes(train, config.max_side_px), len(train))
    return DetectionTerm(detector, seen, config.sets, config.seed, device)


def _given(config: StudentConfig, detector: Path | None) -> dict[str, str]:
    """The hashes of the files that a resumed run must have had as well."""
    given = {"detector": hashlib.sha256(detector.read_bytes()).hexdigest()[:16] if detector is not None else ""}
    path = initial_path(config.initial)
    return given | {"initial": weights_hash(path) if config.initial else ""}


def plain_student(trained: PyramidNet) -> PyramidNet:
    """A trained student, contiguous, in evaluation mode."""
    plain = PyramidNet(trained.channels, trained.levels, len(trained.encoder), len(trained.decoder))
    plain.load_state_dict(trained.state_dict())  # a new network: the exporter fails on channels_last weights
    return plain.eval()
