"""Networks as ONNX: uint8 luma in and out, any batch and any size (students: of a multiple), fp32 inside."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fusepipe.core.errors import EngineError
from fusepipe.core.files import write_bytes
from fusepipe.engines.tensor_names import COARSE_INPUTS, COARSE_OUTPUTS, OUTPUT
from fusepipe.train.networks.byte_fusion import ByteFusion
from fusepipe.train.networks.densefuse import DenseFuseNet
from fusepipe.train.networks.fusiongan import FusionGanNet
from fusepipe.train.networks.mfe import AttentionShare, MfeNet
from fusepipe.train.networks.pyramid import PyramidNet

OPSET = 20
_WORTH_HALVING = 1024


def export_pyramid(network: PyramidNet, path: Path, model: str = "stream") -> None:
    """Writes the pyramid network to ``path``; H and W are multiples of its :attr:`~PyramidNet.multiple`.

    The metadata's ``sharpness`` (finest level first) marks a graph with a coarse part between the tensors
    :data:`COARSE_INPUTS` and :data:`COARSE_OUTPUTS`: a CPU runs that part as a network and the finer levels in integer
    arithmetic (:mod:`fusepipe.engines.backends.openvino.pyramid`).
    """
    sharpness = " ".join(f"{float(value):.6g}" for value in network.sharpness.detach().exp())
    metadata = {"model": model, "channels": str(network.channels), "sharpness": sharpness}
    inner = (*COARSE_INPUTS, *COARSE_OUTPUTS)
    write_graph(_PyramidBytes(network), path, metadata, multiple=network.multiple, inner=inner)


class _PyramidBytes(nn.Module):
    """A pyramid network of uint8 luma that returns the tensors around its coarse part beside the fused image."""

    def __init__(self, network: PyramidNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
        """N x 1 x H x W uint8; the fused image is uint8 as well, the rest as :meth:`PyramidNet.stages` returns it."""
        fused, *inner = self.network.stages(infrared.float() / 255.0, visible.float() / 255.0)
        return torch.round(fused.clamp(0.0, 1.0) * 255.0).to(torch.uint8), *inner


def export_mfe(network: MfeNet, path: Path) -> None:
    """Writes ``mfe`` to ``path``, for any size. See :func:`write_graph`."""
    write_graph(network.eval(), path, {"model": "mfe"})


def export_attention(network: MfeNet, path: Path) -> None:
    """Writes a graph of the same inputs that gives the infrared's weight at each pixel, the mean over the maps."""
    write_graph(AttentionShare(network).eval(), path, {"model": "mfe-attention"}, half=True)


def export_baseline(name: str, generator: nn.Module, out: Path) -> list[Path]:
    """Writes ``out/NAME.onnx`` (and ``NAME-l1.onnx`` of DenseFuse: the l1-norm rule), weights in fp16; the paths.

    For any size from 1x1. See :func:`write_graph`.
    """
    networks = {name: inference_form(generator.cpu())}
    if isinstance(generator, DenseFuseNet):
        l1_norm = DenseFuseNet(l1_norm=True)
        l1_norm.load_state_dict(generator.state_dict())
        networks[f"{name}-l1"] = l1_norm.eval()
    paths = []
    for model, network in networks.items():
        path = out / f"{model}.onnx"
        write_graph(network, path, {"model": model}, half=True)
        paths.append(path)
    return paths


def inference_form(generator: nn.Module) -> nn.Module:
    """A generator in evaluation mode, batch norms folded into the convolutions."""
    return generator.folded() if isinstance(generator, FusionGanNet) else generator.eval()


def write_graph(
    network: nn.Module,
    path: Path,
    metadata: Mapping[str, str],
    *,
    multiple: int = 1,
    half: bool = False,
    inner: Sequence[str] = (),
) -> None:
    """Writes ``path`` (one file, weights inside): ``infrared``, ``visible`` -> ``fused``.

    All three are N x 1 x H x W uint8 luma, full range; H and W are multiples of ``multiple``, which the
    graph's metadata says beside ``metadata``. ``network`` takes and gives images in [0, 1]; scaling and
    rounding (half to even) are in the graph. ``half`` stores the weights in fp16; it computes in fp32. With ``inner``
    ``network`` works on uint8 itself and returns further tensors, which get these names inside the graph.
    """
    example = torch.zeros(1, 1, 48, 64, dtype=torch.uint8)
    sizes = {
        0: torch.export.Dim("batch", min=1),
        2: multiple * torch.export.Dim("cells_high", min=1),
        3: multiple * torch.export.Dim("cells_wide", min=1),
    }
    # it logs a line for each torchvision operator that is not installed
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's exporter and onnxscript call deprecated functions of their own
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        # the two inputs share their sizes, which torch warns about for each axis
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            (network if inner else ByteFusion(network)).eval(),
            (example, example.clone()),
            dynamo=True,
            opset_version=OPSET,
            input_names=["infrared", "visible"],
            output_names=[OUTPUT, *inner],
            dynamic_shapes={"infrared": sizes, "visible": sizes},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EngineError("torch.onnx.export gave no program")
    model = program.model_proto
    del model.graph.output[1:]
    if half:
        _store_in_half(model.graph)
    for key, value in {**metadata, "multiple": str(multiple)}.items():
        model.metadata_props.add(key=f"fusepipe.{key}", value=value)
    for tensor in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            tensor.type.tensor_type.shape.dim[axis].dim_param = name
    _forget_origin(model.graph)
    onnx.checker.check_model(model, full_check=True)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _store_in_half(graph: onnx.GraphProto) -> None:
    """Replaces the large fp32 constants of a graph by fp16 ones and a cast, which runtimes fold away."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < _WORTH_HALVING:
            continue
        name = tensor.name
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Drops the stack traces that torch's exporter leaves in each node: a third of the file, and local paths."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
