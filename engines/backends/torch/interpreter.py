"""ONNX graphs interpreted with PyTorch's functions, operator by operator.

So every network of the registry, and the detectors and teachers of training, run without their training code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from fusepipe.core.errors import EngineError

Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Any], Attributes], Any]
# operator -> the first of the inputs that are read as numbers: shapes, axes, factors
_HOST_FROM = dict.fromkeys(
    (
        *("Resize", "Pad", "Slice", "Split", "Reshape", "Squeeze", "Unsqueeze"),
        *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
    ),
    1,
)


class TorchGraph:
    """An ONNX graph as a function of tensors, its weights on ``device``; raises :class:`EngineError` for operators
    that are not supported.

    Integers, and constants that are read as shapes, axes or factors, stay on the CPU: reading them from a GPU waits
    for it, which a CUDA graph does not allow. ``channels_last`` is the memory format of the weights of convolutions.
    """

    def __init__(
        self, model: onnx.ModelProto, device: torch.device | None = None, *, channels_last: bool = False
    ) -> None:
        unknown = sorted({node.op_type for node in model.graph.node} - set(_OPERATORS))
        if unknown:
            raise EngineError(f"the backend torch does not support the operators {', '.join(unknown)}")
        self._constants = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer
        }
        host = {
            name for node in model.graph.node for name in node.input[_HOST_FROM.get(node.op_type, len(node.input)) :]
        }
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"} if channels_last else set()
        for name, tensor in self._constants.items():
            if name not in host and tensor.is_floating_point():
                layout = torch.channels_last if name in weights and tensor.dim() == 4 else torch.contiguous_format
                self._constants[name] = tensor.to(device).contiguous(memory_format=layout)
        self._nodes = [
            (node, _OPERATORS[node.op_type], {a.name: helper.get_attribute_value(a) for a in node.attribute})
            for node in model.graph.node
        ]
        last: dict[str, int] = {}
        for index, node in enumerate(model.graph.node):
            last |= dict.fromkeys(node.input, index)
        self._done_after: dict[int, list[str]] = {}
        for name, index in last.items():
            self._done_after.setdefault(index, []).append(name)
        self._output = model.graph.output[0].name

    def __call__(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The fused image of N x 1 x H x W uint8 images, without gradients."""
        with torch.inference_mode():
            return self.output({"infrared": infrared, "visible": visible})

    def output(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The graph's first output for its inputs by name; differentiable as PyTorch's functions are."""
        values: dict[str, Any] = {"": None, **inputs, **self._constants}
        for index, (node, operator, attributes) in enumerate(self._nodes):
            results = operator([values[name] for name in node.input], attributes)
            parts = results if isinstance(results, tuple | list) else (results,)
            values |= dict(zip(node.output, parts, strict=False))
            for name in self._done_after.get(index, ()):  # activations of large images take much memory
                if name and name not in self._constants:
                    del values[name]
        result: Tensor = values[self._output]
        return result


# -- operators: (inputs, attributes) -> output, as ONNX defines them


def _ints(value: Any) -> list[int]:
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def _conv(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    image, weights = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    pads = attributes.get("pads", [0, 0, 0, 0])
    if any(pads):
        image = F.pad(image, (pads[1], pads[3], pads[0], pads[2]))
    return F.conv2d(
        image,
        weights,
        bias,
        attributes.get("strides", [1, 1]),
        0,
        attributes.get("dilations", [1, 1]),
        attributes.get("group", 1),
    )


def _pool(inputs: Sequence[Any], attributes: Attributes, *, maximum: bool) -> Tensor:
    image, kernel, pads = inputs[0], attributes["kernel_shape"], attributes.get("pads", [0, 0, 0, 0])
    strides, order = attributes.get("strides", [1, 1]), (pads[1], pads[3], pads[0], pads[2])
    if maximum:
        return F.max_pool2d(F.pad(image, order, value=float("-inf")), kernel, strides)
    total = F.avg_pool2d(F.pad(image, order), kernel, strides)
    if attributes.get("count_include_pad") or not any(pads):
        return total
    return total / F.avg_pool2d(F.pad(torch.ones_like(image[:1, :1]), order), kernel, strides)


def _pad(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    image, pads = inputs[0], _ints(inputs[1])
    mode = attributes.get("mode", b"constant").decode()
    if mode == "constant":
        half, order = len(pads) // 2, []
        for axis in reversed(range(half)):
            order += [pads[axis], pads[half + axis]]
        value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
        return F.pad(image, order, value=value)
    if any(pads[:2]) or any(pads[4:6]):
        raise EngineError(f"the backend torch pads height and width only, not {pads}")
    order = [pads[3], pads[7], pads[2], pads[6]]
    return F.pad(image, order, mode={"edge": "replicate", "reflect": "reflect"}[mode])


def _slice(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    data, starts, ends = inputs[0], _ints(inputs[1]), _ints(inputs[2])
    axes = _ints(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = _ints(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    window = [slice(None)] * data.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(start, end, step)
    return data[tuple(window)]  # type: ignore[no-any-return]


def _split(inputs: Sequence[Any], attributes: Attributes) -> tuple[Tensor, ...]:
    data, axis = inputs[0], attributes.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(data.split(_ints(inputs[1]), dim=axis))
    parts = attributes["num_outputs"]
    return tuple(data.split(-(-data.shape[axis] // parts), dim=axis))


def _depth_to_space(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    if attributes.get("mode", b"DCR") == b"CRD":
        return F.pixel_shuffle(inputs[0], attributes["blocksize"])
    n, c, h, w = inputs[0].shape
    b = attributes["blocksize"]
    return inputs[0].reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)  # type: ignore[no-any-return]


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def apply(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
        axes = attributes.get("axes") or (inputs[1] if len(inputs) > 1 else None)
        dims = list(range(inputs[0].dim())) if axes is None else _ints(axes)
        return function(inputs[0], dims, bool(attributes.get("keepdims", 1)))

    return apply


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    data, shape = inputs[0], _ints(inputs[1])
    return data.reshape([data.shape[i] if size == 0 else size for i, size in enumerate(shape)])  # type: ignore[no-any-return]


def _gemm(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    a, b = inputs[0], inputs[1]
    a, b = (a.T if attributes.get("transA") else a), (b.T if attributes.get("transB") else b)
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else product


def _cast(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    kind = torch.from_numpy(np.zeros(0, helper.tensor_dtype_to_np_dtype(attributes["to"]))).dtype
    result: Tensor = inputs[0].to(kind)
    return result


def _clip(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    low, high = (inputs[i] if len(inputs) > i else None for i in (1, 2))
    result: Tensor = inputs[0]
    result = result if low is None else torch.maximum(result, low)
    return result if high is None else torch.minimum(result, high)


def _resize(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    mode = attributes.get("mode", b"nearest"), attributes.get("coordinate_transformation_mode", b"half_pixel")
    floors = attributes.get("nearest_mode", b"round_prefer_floor") == b"floor"
    if mode == (b"linear", b"half_pixel") and not attributes.get("antialias"):
        method: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
    elif mode == (b"nearest", b"asymmetric") and floors:
        method = {"mode": "nearest"}
    else:
        raise EngineError(f"the backend torch resizes linearly by pixel centres, or repeats pixels, not {mode}")
    image = inputs[0]
    if len(inputs) > 3 and inputs[3] is not None:
        return F.interpolate(image, size=_ints(inputs[3])[2:], **method)
    return F.interpolate(image, scale_factor=[float(value) for value in inputs[2].tolist()[2:]], **method)


def _squeeze(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    data: Tensor = inputs[0]
    return data.squeeze(tuple(_ints(inputs[1]))) if len(inputs) > 1 else data.squeeze()


def _unsqueeze(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    data: Tensor = inputs[0]
    for axis in sorted(_ints(inputs[1])):
        data = data.unsqueeze(axis)
    return data


def _plain(function: Callable[..., Any]) -> Operator:
    return lambda inputs, attributes: function(*inputs)


_OPERATORS: Mapping[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "AveragePool": lambda i, a: _pool(i, a, maximum=False),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda i, a: torch.cat(list(i), dim=a["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _plain(torch.div),
    "Exp": _plain(torch.exp),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda i, a: i[0].mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda i, a: i[0].amax((2, 3), keepdim=True),
    "Identity": lambda i, a: i[0],
    "LeakyRelu": lambda i, a: F.leaky_relu(i[0], a.get("alpha", 0.01)),
    "MatMul": _plain(torch.matmul),
    "Max": lambda i, a: reduce(torch.maximum, i),
    "MaxPool": lambda i, a: _pool(i, a, maximum=True),
    "Min": lambda i, a: reduce(torch.minimum, i),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": lambda i, a: torch.where(i[0] < 0, i[0] * i[1], i[0]),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "ReduceMax": _reduce(lambda x, dims, keep: x.amax(dims, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, dims, keep: x.mean(dims, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, dims, keep: x.amin(dims, keepdim=keep)),
    "ReduceSum": _reduce(lambda x, dims, keep: x.sum(dims, keepdim=keep)),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _plain(torch.round),
    "Shape": lambda i, a: torch.tensor(i[0].shape[a.get("start", 0) : a.get("end")]),
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda i, a: torch.softmax(i[0], a.get("axis", -1)),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda i, a: i[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
