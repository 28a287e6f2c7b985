"""A trained network as the teacher of a student.

It fuses the same crops as the student and shows it an image, where the unsupervised loss only says what an image
should have in common with its sources.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from fusepipe.core.errors import UsageError
from fusepipe.train.weights import MFE, STUDENTS, load_weights

SHIPPED = (MFE, *STUDENTS)
"""Names of teachers whose weights are part of the package."""


def teacher_path(teacher: str) -> Path:
    """The weights file of a shipped teacher by its name, else the path as given."""
    if teacher in SHIPPED:
        return Path(str(files("fusepipe.engines") / "weights" / f"{teacher}.safetensors"))
    return Path(teacher)


class Teacher:
    """The frozen network of a ``.safetensors`` file of ``mfe`` or a student, on a device.

    ``name`` is one of :data:`SHIPPED` or a path. Raises :class:`UsageError` for another kind of file.
    """

    def __init__(self, name: str | Path, device: torch.device | None = None) -> None:
        path = teacher_path(str(name))
        if path.suffix != ".safetensors":
            raise UsageError(
                f"teacher: {path}: give weights (.safetensors), not a graph, or one of {', '.join(SHIPPED)}"
            )
        self._network = load_weights(path).requires_grad_(False).to(device or torch.device("cpu"))

    def __call__(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses N x 1 x H x W images in [0, 1]; the same shape and range, without a gradient."""
        with torch.no_grad():
            fused: Tensor = self._network(infrared, visible)
        return fused
