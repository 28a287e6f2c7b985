"""Comparing what was built with the proven fp32 network: the plan itself, or where nothing executes it its graph."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import cv2
import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import Fuser, FusionBatch
from fusepipe.core.models import NETWORKS
from fusepipe.engines.builder.proof import Agreement, Proof, compare
from fusepipe.engines.builder.request import BuildRequest, Materials, Pair
from fusepipe.engines.manifest import Shapes


def prove(request: BuildRequest, plan: bytes, graph: bytes, materials: Materials) -> Proof:
    """Compares the plan, or where nothing here executes it its graph, with the fp32 network and with PyTorch.

    An engine with the registration gets the infrared image and a warp, and the others the image that the CPU warped.
    """
    from fusepipe.engines.backends.openvino_graph import GraphRunner

    fitted = [fit(pair, request.shapes) for pair in materials.proof]
    warps = [_warp(request, materials, visible) for _, visible in fitted]
    subject, executed, given = _images(request, plan, graph, fitted, warps)
    registered = [_registered(pair, warp) for pair, warp in zip(fitted, warps, strict=True)]
    reference = GraphRunner(request.onnx)
    expected = [reference.fuse(*pair) for pair in registered]
    agreements = [compare("the fp32 ONNX", registered, expected, given, materials.score)]
    notes: list[str] = []
    if find_spec("torch") is not None:
        try:
            agreements.append(_against_torch(request, registered, given))
        except EngineError as error:
            if request.model in NETWORKS:
                raise
            notes.append(f"not compared with PyTorch: {error}")  # it walks the operators of the networks that ship
    return Proof(subject, executed, tuple(agreements), tuple(notes))


def _warp(request: BuildRequest, materials: Materials, visible: Luma8) -> Warp | None:
    if not request.warp or materials.warp_of is None:
        return None
    height, width = visible.shape
    return materials.warp_of((width, height))


def _registered(pair: Pair, warp: Warp | None) -> Pair:
    """As the pipeline does it on the CPU: the visible image stands where the infrared camera sees nothing."""
    infrared, visible = pair
    if warp is None:
        return pair
    warped = np.asarray(warp.apply(infrared), np.uint8)
    return (warped if warp.valid is None else np.where(warp.valid == 0, visible, warped)), visible


def _fused(fuser: Fuser, pairs: Sequence[Pair], warps: Sequence[Warp | None]) -> list[Luma8]:
    batches = (
        FusionBatch((infrared,), (visible,), ("",), () if warp is None else (warp,))
        for (infrared, visible), warp in zip(pairs, warps, strict=True)
    )
    return [fuser.submit(batch).result()[0] for batch in batches]


def _images(
    request: BuildRequest, plan: bytes, graph: bytes, pairs: Sequence[Pair], warps: Sequence[Warp | None]
) -> tuple[str, bool, list[Luma8]]:
    if request.backend == "openvino":
        from fusepipe.engines.backends.openvino import OpenVinoFuser

        with OpenVinoFuser(request.model, plan, request.precision) as fuser:
            return f"the engine, run on {fuser.info.device}", True, _fused(fuser, pairs, warps)
    from fusepipe.engines.graph import multiple_of, read_graph, serialised

    read = read_graph(graph, request.model)
    if request.gpu is not None:
        from fusepipe.engines.backends.tensorrt.runtime import open_plan

        names = request.model, request.backend, request.precision
        with open_plan(
            *names,
            plan,
            request.shapes,
            multiple=multiple_of(read),
            warp=request.warp,
            version_compatible=request.options.version_compatible,
        ) as gpu_fuser:
            return f"the plan, run on {request.gpu.name}", True, _fused(gpu_fuser, pairs, warps)
    from fusepipe.engines.backends.openvino_graph import GraphRunner
    from fusepipe.engines.builder.rounding import emulated

    runner = GraphRunner(serialised(emulated(read)))
    subject = (
        f"the graph that was compiled, computed on the CPU with the roundings of {request.precision} (no GPU here)"
    )
    return subject, False, [runner.fuse(*pair, warp) for pair, warp in zip(pairs, warps, strict=True)]


def _against_torch(request: BuildRequest, pairs: Sequence[Pair], given: Sequence[Luma8]) -> Agreement:
    from fusepipe.engines.backends.torch import TorchFuser

    with TorchFuser(request.model, request.onnx) as torch:
        expected = [torch.fuse(*pair) for pair in pairs]
    return compare("PyTorch", pairs, expected, given)


def fit(pair: Pair, shapes: Shapes) -> Pair:
    """A pair at a size that the engine takes: resized where it is outside of its range."""
    height, width = pair[1].shape
    (low_w, low_h), (high_w, high_h) = shapes.least, shapes.most
    size = min(max(width, low_w), high_w), min(max(height, low_h), high_h)
    if size == (width, height):
        return pair
    infrared, visible = (np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in pair)
    return infrared, visible
