"""Value ranges of a network's tensors on calibration pairs: for int8 scales and for the fp16 overflow check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.openvino.network import GraphRunner
from fusepipe.engines.onnx_graph import compute_nodes, element_types, parts, with_outputs

LumaPair = tuple[Luma8, Luma8]  # infrared and visible, HxW uint8 of one size

CROP_PX = 192
"""Side of the centre crop used for calibration: ranges need many scenes, not many pixels."""
_SAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class TensorRange:
    """Minimum and maximum of one tensor over all pairs, and a random sample of its values."""

    min: float
    max: float
    sample: NDArray[np.float32]

    @property
    def abs_max(self) -> float:
        """The largest magnitude."""
        return max(abs(self.min), abs(self.max))


def measure_ranges(model: onnx.ModelProto, names: Iterable[str], pairs: Sequence[LumaPair]) -> dict[str, TensorRange]:
    """The ranges of the float tensors ``names``: runs the fp32 graph on the centre crops of the pairs.

    Raises :class:`EngineError` for values that are not finite: the weights are damaged.
    """
    wanted = list(dict.fromkeys(names))
    runner = GraphRunner(with_outputs(model, wanted))
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    extremes: dict[str, list[float]] = {name: [np.inf, -np.inf] for name in wanted}
    rng = np.random.default_rng(0)
    for infrared, visible in pairs:
        found = runner.outputs(centre_crop(infrared), centre_crop(visible))
        for name in wanted:
            values = np.asarray(found[name], np.float32).reshape(-1)
            if not np.isfinite(values).all():
                raise EngineError(f"the network has values that are not finite (in {name!r}): its weights are damaged")
            extremes[name][0] = min(extremes[name][0], float(values.min()))
            extremes[name][1] = max(extremes[name][1], float(values.max()))
            samples[name].append(rng.choice(values, min(values.size, max(1, _SAMPLES // len(pairs)))))
    return {name: TensorRange(extremes[name][0], extremes[name][1], np.concatenate(samples[name])) for name in wanted}


def centre_crop(image: Luma8) -> Luma8:
    """The centre of an HxW image, at most CROP_PX x CROP_PX, at even offsets."""
    height, width = image.shape
    top, left = max(0, height - CROP_PX) // 4 * 2, max(0, width - CROP_PX) // 4 * 2
    return image[top : top + CROP_PX, left : left + CROP_PX]


def absolute_maxima(model: onnx.ModelProto, pairs: Sequence[LumaPair], nodes: Set[str]) -> dict[str, float]:
    """The largest magnitude, over the pairs, of each float tensor that the nodes of these names read or write."""
    types = element_types(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    names = {
        name
        for node in model.graph.node
        if node.name in nodes
        for name in (*node.input, *node.output)
        if name and name not in constants and types[name] == TensorProto.FLOAT
    }
    return {name: tensor.abs_max for name, tensor in measure_ranges(model, sorted(names), pairs).items()}


def compute_input_ranges(model: onnx.ModelProto, pairs: Sequence[LumaPair]) -> Mapping[str, TensorRange]:
    """Ranges of the tensors that int8 quantises: inputs of compute layers, and the parts concatenated into them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    read = [node.input[0] for node in compute_nodes(model) if node.input[0] not in constants]
    return measure_ranges(model, [*read, *(part for name in read for part in parts(model, name))], pairs)
