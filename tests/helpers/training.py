"""What the trainings' tests share: the packages they need, runs of the loop on made pairs, the command in a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest
from helpers.made_images import write
from helpers.made_pairs import make_pairs

if TYPE_CHECKING:
    from torch import nn

    from fusepipe.train.loop import Loop
    from fusepipe.train.networks.pyramid import PyramidNet

CHILD_TIMEOUT_S = 240
"""Limit of one ``fusepipe train`` in a process of its own."""


def require_training() -> Any:
    """PyTorch; skips the test module where a package of the extra ``train`` is missing."""
    for package in ("safetensors", "onnxscript", "tensorboard"):
        pytest.importorskip(package, reason=f"training needs {package}: pip install 'fusepipe[train]'")
    return pytest.importorskip("torch", reason="training needs torch: pip install 'fusepipe[train]'")


def run_loop(loop: Loop, stop_after: int | None = None) -> list[float]:
    """Runs to the end, or stops after a step; the losses of the steps."""
    stop, losses = threading.Event(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step == stop_after:
            stop.set()

    assert loop.run(stop, report) == (stop_after is None)
    return losses


def assert_equal_checkpoints(*folders: Path) -> None:
    """The checkpoints of two runs are equal to the bit."""
    import torch

    from fusepipe.train.checkpoint import CHECKPOINT
    from fusepipe.train.tensors import read_tensors

    (one, about_one), (other, about_other) = (read_tensors(folder / CHECKPOINT) for folder in folders)
    assert about_one == about_other and one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def write_pairs(data: Path, height: int = 48, width: int = 64) -> Path:
    """The made pairs ``a`` and ``b`` in ``data/made/{ir,vis}``; returns ``data``."""
    for pair, stem in zip(make_pairs(2, height, width), ("a", "b"), strict=True):
        for band, image in (("ir", pair.infrared), ("vis", pair.visible)):
            folder = data / "made" / band
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{stem}.png"), image)
    return data


def train_in_child(arguments: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    """``fusepipe train`` in a process of its own, after the statements ``before``.

    Torch's ONNX exporter alone takes 14 CPU seconds, minutes on a loaded machine: tests need a time limit of their own.
    """
    code = f"import sys\n{before}\nfrom fusepipe.cli import main\nmain(['train', *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
        check=False,
        # background jobs of a shell inherit SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupting(module: str, task: str) -> str:
    """Statements for :func:`train_in_child`: SIGINT arrives in each step of the task."""
    return (
        f"import signal; from {module} import {task} as Task; generate = Task.generate\n"
        "Task.generate = lambda *given: (signal.raise_signal(signal.SIGINT), generate(*given))[1]"
    )


def mfe_arguments(folder: Path) -> list[str]:
    """Options of a training of ``mfe`` with three steps a stage, on images and pairs made in a folder."""
    for n in range(3):
        write(folder / "photos" / f"{n}.png", seed=n)
        for band, seed in (("ir", 10 + n), ("vis", 20 + n)):
            write(folder / "data" / "made" / band / f"{n}.png", seed=seed)
    stage = "steps: 3, batch: 2, crop_px: 32, validate_every: 2, validation_images: 1, workers: 0, threads: 1"
    pairs = f"{{pairs: folders, {stage}}}"
    config = folder / "tiny.yaml"
    config.write_text(f"stage1: {{{stage}}}\nattention: {pairs}\nfinetune: {pairs}\n")
    places = ["--photographs", folder / "photos", "--data", folder / "data", "--out", folder / "out"]
    return ["--config", str(config), *map(str, places), "--device", "cpu"]


def macs_per_pixel(network: PyramidNet) -> float:
    """Multiply-accumulates of the convolutions per pixel at full infrared size (encoder counted twice)."""
    from fusepipe.train.networks.pyramid import CELL

    def cost(layer: nn.Module) -> int:
        return sum(p.numel() for name, p in layer.named_parameters() if name.endswith("weight"))

    cells = (CELL * 2**network.levels) ** 2
    macs: float = (2 * cost(network.encoder) + cost(network.gate) + cost(network.decoder) + cost(network.head)) / cells
    return macs
