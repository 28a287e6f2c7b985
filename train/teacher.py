"""Distillation: a trained network as a term of a student's loss.

A teacher fuses the same crops as the student, in what it was trained in (crops of any size, one call a
batch), and needs no gradient. It shows the student an image where the unsupervised loss only says what
an image should have in common with its sources.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from fusepipe.core.errors import UsageError
from fusepipe.train.checkpoint import load_weights, read_tensors
from fusepipe.train.mfe_weights import load_mfe

SHIPPED = ("mfe", "stream", "stream-hq")
"""Names of teachers whose weights are part of the package."""


def weights_of(teacher: str) -> Path:
    """The file of a shipped teacher by its name, else the path as it is given."""
    return (
        Path(str(files("fusepipe.engines") / "weights" / f"{teacher}.safetensors"))
        if teacher in SHIPPED
        else Path(teacher)
    )


class Teacher:
    """The network of a ``.safetensors`` file of ``mfe`` or ``stream``, frozen, on a device.

    ``name`` is one of :data:`SHIPPED` or a path.
    """

    def __init__(self, name: str | Path, device: torch.device | None = None) -> None:
        path = weights_of(str(name))
        if path.suffix != ".safetensors":
            raise UsageError(
                f"teacher: {path}: give weights (.safetensors), not a graph, or one of {', '.join(SHIPPED)}"
            )
        _, metadata = read_tensors(path)
        network: nn.Module = load_mfe(path) if metadata.get("model") == "mfe" else load_weights(path)
        self._network = network.eval().requires_grad_(False).to(device or torch.device("cpu"))

    def __call__(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """What it makes of N x 1 x H x W images in [0, 1]: the same shape and range, without a gradient."""
        with torch.no_grad():
            taught: Tensor = self._network(infrared, visible)
        return taught
