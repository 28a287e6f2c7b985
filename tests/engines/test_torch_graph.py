"""ONNX graphs in PyTorch beyond fusion networks: resizing, gradients, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the backend torch needs PyTorch: pip install 'fusepipe[train]'")

from onnx import ModelProto, TensorProto, helper  # noqa: E402

from fusepipe.core.errors import EngineError  # noqa: E402
from fusepipe.engines.backends.torch.interpreter import TorchGraph  # noqa: E402


def resizing(**attributes: str) -> ModelProto:
    """A graph that doubles the size of ``images`` and multiplies by three."""
    constants = [
        helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2]),
        helper.make_tensor("three", TensorProto.FLOAT, [], [3]),
    ]
    nodes = [
        helper.make_node("Resize", ["images", "", "scales"], ["large"], **attributes),
        helper.make_node("Mul", ["large", "three"], ["output"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, None, None]) for name in ("images", "output")
    ]
    return helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], constants))


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def test_pixels_are_repeated() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    result = TorchGraph(resizing(**NEAREST)).output({"images": image})
    assert np.array_equal(result[0, 0].numpy(), 3 * np.arange(6).reshape(2, 3).repeat(2, 0).repeat(2, 1))


def test_the_output_has_a_gradient_for_the_input() -> None:
    image = torch.rand(1, 1, 2, 3, requires_grad=True)
    TorchGraph(resizing(**NEAREST)).output({"images": image}).sum().backward()
    assert image.grad is not None and torch.allclose(image.grad, torch.full_like(image, 12.0))


@pytest.mark.parametrize("change", [{"mode": "cubic"}, {"nearest_mode": "ceil"}, {"mode": "linear"}])
def test_other_ways_of_resizing_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(EngineError, match="the backend torch resizes linearly by pixel centres, or repeats pixels"):
        TorchGraph(resizing(**{**NEAREST, **change})).output({"images": torch.rand(1, 1, 2, 3)})
