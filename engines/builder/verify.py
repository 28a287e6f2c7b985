"""Compares a built engine with the fp32 network: by running the plan, or its graph where no device runs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import cv2
import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import Fuser, FusionBatch
from fusepipe.core.models import NETWORKS
from fusepipe.engines.builder.agreement import measure_agreement
from fusepipe.engines.builder.request import BuildImages, BuildRequest, Pair
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.verification import Agreement, Verification


def verify(request: BuildRequest, plan: bytes, graph: bytes, images: BuildImages) -> Verification:
    """Compares the plan with the fp32 network and, where it is installed, with PyTorch.

    Without a device for the plan its graph is computed on the CPU. An engine with the warp receives raw infrared
    images and a warp; the references receive the images warped on the CPU.
    """
    from fusepipe.engines.backends.openvino.network import GraphRunner

    fitted = [resize_to_fit(pair, request.shapes) for pair in images.verification]
    warps = [_warp(request, images, visible) for _, visible in fitted]
    subject, executed, given = _engine_images(request, plan, graph, fitted, warps)
    registered = [register_on_cpu(pair, warp) for pair, warp in zip(fitted, warps, strict=True)]
    reference = GraphRunner(request.onnx)
    expected = [reference.fuse(*pair) for pair in registered]
    agreements = [measure_agreement("the fp32 ONNX", registered, expected, given, images.score)]
    notes: list[str] = []
    if find_spec("torch") is not None:
        try:
            agreements.append(_against_torch(request, registered, given))
        except EngineError as error:
            if request.model in NETWORKS:
                raise
            # the backend knows the operators of the shipped networks only
            notes.append(f"not compared with PyTorch: {error}")
    return Verification(subject, executed, tuple(agreements), tuple(notes))


def _warp(request: BuildRequest, images: BuildImages, visible: Luma8) -> Warp | None:
    if not request.warp or images.make_warp is None:
        return None
    height, width = visible.shape
    return images.make_warp((width, height))


def register_on_cpu(pair: Pair, warp: Warp | None) -> Pair:
    """The pair with its infrared image warped as by the pipeline; the visible image fills what the camera misses."""
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


def _engine_images(
    request: BuildRequest, plan: bytes, graph: bytes, pairs: Sequence[Pair], warps: Sequence[Warp | None]
) -> tuple[str, bool, list[Luma8]]:
    if request.backend == "openvino":
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser

        with OpenVinoFuser(request.model, plan, request.precision) as fuser:
            return f"the engine, run on {fuser.info.device}", True, _fused(fuser, pairs, warps)
    from fusepipe.engines.onnx_graph import multiple_of, read_graph, serialised

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
    from fusepipe.engines.backends.openvino.network import GraphRunner
    from fusepipe.engines.builder.emulate import emulate

    runner = GraphRunner(serialised(emulate(read)))
    subject = (
        f"the graph that was compiled, computed on the CPU with the roundings of {request.precision} (no GPU here)"
    )
    return subject, False, [runner.fuse(*pair, warp) for pair, warp in zip(pairs, warps, strict=True)]


def _against_torch(request: BuildRequest, pairs: Sequence[Pair], given: Sequence[Luma8]) -> Agreement:
    from fusepipe.engines.backends.torch import TorchFuser

    with TorchFuser(request.model, request.onnx) as torch:
        expected = [torch.fuse(*pair) for pair in pairs]
    return measure_agreement("PyTorch", pairs, expected, given)


def resize_to_fit(pair: Pair, shapes: Shapes) -> Pair:
    """The pair, resized if its size is outside the engine's range."""
    height, width = pair[1].shape
    (min_w, min_h), (max_w, max_h) = shapes.min, shapes.max
    size = min(max(width, min_w), max_w), min(max(height, min_h), max_h)
    if size == (width, height):
        return pair
    infrared, visible = (np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in pair)
    return infrared, visible
