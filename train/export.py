"""The student as ONNX: uint8 luma in and out, any batch and any even size, fp32 inside."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import onnx
import torch

from fusepipe.errors import EngineError
from fusepipe.train.student import MULTIPLE, ByteStudent, StudentNet

OPSET = 20


def export_onnx(network: StudentNet, path: Path) -> None:
    """Writes ``path`` (one file, weights inside): ``infrared``, ``visible`` -> ``fused``.

    All three are N x 1 x H x W uint8 luma, full range; H and W are multiples of 2. Scaling to
    [0, 1], rounding (half to even) and clamping are in the graph. The graph's metadata says ``multiple``.
    """
    example = torch.zeros(1, 1, 48, 64, dtype=torch.uint8)
    sizes = {
        0: torch.export.Dim("batch", min=1),
        2: MULTIPLE * torch.export.Dim("cells_high", min=1),
        3: MULTIPLE * torch.export.Dim("cells_wide", min=1),
    }
    # It names every torchvision operator that it can do without, a line each.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's exporter and onnxscript call their own deprecated functions.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        # The two inputs share their sizes, which torch finds worth a warning an axis.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            ByteStudent(network).eval(),
            (example, example.clone()),
            dynamo=True,
            opset_version=OPSET,
            input_names=["infrared", "visible"],
            output_names=["fused"],
            dynamic_shapes={"infrared": sizes, "visible": sizes},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise EngineError("torch.onnx.export gave no program")
    model = program.model_proto
    for key, value in (("model", "stream"), ("multiple", str(MULTIPLE)), ("channels", str(network.channels))):
        model.metadata_props.add(key=f"fusepipe.{key}", value=value)
    for tensor in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            tensor.type.tensor_type.shape.dim[axis].dim_param = name
    _forget_origin(model.graph)
    onnx.checker.check_model(model, full_check=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Drops the stack traces that torch's exporter leaves in each node: a third of the file, and local paths."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
