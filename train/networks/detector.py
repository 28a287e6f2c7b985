"""An object detector as a differentiable function: a YOLOX graph (Ge et al. 2021) trained on COCO's 80 classes."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.torch.interpreter import TorchGraph

PERSON, VEHICLES = 0, (2, 5, 7)
"""COCO's classes: persons; cars, buses and trucks."""
_INPUT, _OBJECT, _CLASSES, _VALUES = "images", 4, 5, 85
_STRIDE = 32


class Detector:
    """The frozen detector of a YOLOX file (``.onnx``: ``images``, 1 x 3 x H x W, to 1 x anchors x 85).

    Raises :class:`EngineError` for another kind of file.
    """

    def __init__(self, path: Path, device: torch.device | None = None) -> None:
        try:
            model = onnx.load(str(path))
        except Exception as error:  # protobuf's and onnx's errors have no common base
            raise EngineError(f"{path}: cannot be read as ONNX ({str(error).splitlines()[0]})") from error
        inputs = [tensor.name for tensor in model.graph.input]
        shapes = [[d.dim_value for d in t.type.tensor_type.shape.dim] for t in model.graph.output]
        if _INPUT not in inputs or not shapes or shapes[0][-1:] != [_VALUES]:
            raise EngineError(
                f"{path}: not a YOLOX detector of COCO's classes: needs the input {_INPUT!r} and {_VALUES} values per "
                f"anchor, has {inputs = } and outputs of {shapes}"
            )
        self._graph = TorchGraph(model, device)

    def __call__(self, images: Tensor) -> Tensor:
        """Detects in a 1 x 3 x H x W image, BGR in 0..255, sides multiples of 32.

        Returns 1 x anchors x 85: box (centre and logarithmic size, relative to the anchor), objectness, 80 classes.
        """
        if any(side % _STRIDE for side in images.shape[2:]):
            raise ValueError(f"sides must be multiples of {_STRIDE}: {images.shape = }")
        return self._graph.output({_INPUT: images})


def scores(found: Tensor) -> Tensor:
    """The probability of a person and of a vehicle at each anchor: N x anchors x 85 to N x anchors x 2."""
    classes = found[..., _CLASSES:]
    return torch.stack((classes[..., PERSON], classes[..., VEHICLES].amax(dim=-1)), dim=-1) * found[..., _OBJECT, None]


def boxes(found: Tensor) -> Tensor:
    """The box of each anchor, relative to it: N x anchors x 85 to N x anchors x 4."""
    return found[..., :4]
