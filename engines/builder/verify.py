"""Compares a built engine with the fp32 network: by running the plan, or its graph where no device runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import cv2
import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8, Warp
from fusepipe.core.fuser import Fuser, FusionBatch
from fusepipe.core.models import NETWORKS
from fusepipe.engines.backends.cuda.api import open_cuda
from fusepipe.engines.builder.agreement import REGISTERED, measure_agreement
from fusepipe.engines.builder.request import BuildImages, BuildRequest, LumaPair, MakeWarp
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
    registered = [register_on_cpu(pair, warp) for pair, warp in zip(fitted, warps, strict=True)]
    reference = GraphRunner(request.onnx)
    expected = [reference.fuse(*pair) for pair in registered]
    with _opened(request, plan, graph) as engine:
        given = engine.fuse(fitted, warps)
        agreements = [measure_agreement("the fp32 ONNX", registered, expected, given, images.score)]
        if request.warp and images.make_warp is not None:
            agreements.append(_against_registered(engine, _textured_pair(request.shapes), images.make_warp))
    notes: list[str] = []
    if find_spec("torch") is not None:
        try:
            agreements.append(_against_torch(request, registered, given))
        except EngineError as error:
            if request.model in NETWORKS:
                raise
            # the backend knows the operators of the shipped networks only
            notes.append(f"not compared with PyTorch: {error}")
    return Verification(engine.subject, engine.executed, tuple(agreements), tuple(notes))


def _warp(request: BuildRequest, images: BuildImages, visible: Luma8) -> Warp | None:
    if not request.warp or images.make_warp is None:
        return None
    height, width = visible.shape
    return images.make_warp((width, height))


def register_on_cpu(pair: LumaPair, warp: Warp | None) -> LumaPair:
    """The pair with its infrared image warped as by the pipeline."""
    infrared, visible = pair
    return pair if warp is None else (np.asarray(warp.apply(infrared), np.uint8), visible)


def _fused(fuser: Fuser, pairs: Sequence[LumaPair], warps: Sequence[Warp | None]) -> list[Luma8]:
    for _, visible in pairs:
        fuser.prepare(*visible.shape)  # compiling may take longer than a request is waited for
    batches = (
        FusionBatch((infrared,), (visible,), ("",), () if warp is None else (warp,))
        for (infrared, visible), warp in zip(pairs, warps, strict=True)
    )
    return [fuser.submit(batch).result()[0] for batch in batches]


@dataclass(frozen=True, slots=True)
class _Engine:
    """The engine, or the emulation of its graph: fuses pairs with their warps."""

    subject: str
    executed: bool
    fuse: Callable[[Sequence[LumaPair], Sequence[Warp | None]], list[Luma8]]


@contextmanager
def _opened(request: BuildRequest, plan: bytes, graph: bytes) -> Iterator[_Engine]:
    if request.backend == "openvino":
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser

        with OpenVinoFuser(request.model, plan, request.precision) as fuser:
            yield _Engine(f"the engine, run on {fuser.info.device}", True, partial(_fused, fuser))
        return
    from fusepipe.engines.onnx_graph import multiple_of, read_graph, serialised

    read = read_graph(graph, request.model)
    if request.gpu is not None:
        from fusepipe.engines.backends.tensorrt.runtime import open_plan

        index = request.gpu.index
        with open_plan(
            request.model,
            request.backend,
            request.precision,
            plan,
            request.shapes,
            multiple=multiple_of(read),
            warp=request.warp,
            version_compatible=request.options.version_compatible,
            cuda=lambda: open_cuda(device=index),
        ) as gpu_fuser:
            yield _Engine(f"the plan, run on {request.gpu.name}", True, partial(_fused, gpu_fuser))
        return
    from fusepipe.engines.backends.openvino.network import GraphRunner
    from fusepipe.engines.builder.emulate import emulate

    runner = GraphRunner(serialised(emulate(read)))

    def fuse(pairs: Sequence[LumaPair], warps: Sequence[Warp | None]) -> list[Luma8]:
        return [runner.fuse(*pair, warp) for pair, warp in zip(pairs, warps, strict=True)]

    yield _Engine(
        f"the graph that was compiled, computed on the CPU with the roundings of {request.precision} (not executed: no "
        "GPU here)",
        False,
        fuse,
    )


_TEXTURED_SIZE = (320, 240)


def _textured_pair(shapes: Shapes) -> LumaPair:
    """A pair of fine noise within the engine's sizes: wrong sampling shows on it as on no image of a smooth scene."""
    size = _clamped(_TEXTURED_SIZE, shapes)
    noise = np.random.default_rng(0).integers(0, 256, (2, size[1], size[0]), np.uint8)
    infrared, visible = (np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8) for image in noise)
    return infrared, visible


def _against_registered(engine: _Engine, pair: LumaPair, make_warp: MakeWarp) -> Agreement:
    """The engine with a warp compared with itself on the pair registered on the CPU.

    The precision is the same on both sides, so that the comparison is as strict for int8 as for fp32.
    """
    height, width = pair[1].shape
    warp = make_warp((width, height))
    registered = register_on_cpu(pair, warp)
    return measure_agreement(REGISTERED, [registered], engine.fuse([registered], [None]), engine.fuse([pair], [warp]))


def _against_torch(request: BuildRequest, pairs: Sequence[LumaPair], given: Sequence[Luma8]) -> Agreement:
    from fusepipe.engines.backends.torch.fuser import TorchFuser

    with TorchFuser(request.model, request.onnx) as torch:
        expected = [torch.fuse(*pair) for pair in pairs]
    return measure_agreement("PyTorch", pairs, expected, given)


def resize_to_fit(pair: LumaPair, shapes: Shapes) -> LumaPair:
    """The pair, resized if its size is outside the engine's range."""
    height, width = pair[1].shape
    size = _clamped((width, height), shapes)
    if size == (width, height):
        return pair
    infrared, visible = (np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in pair)
    return infrared, visible


def _clamped(size: tuple[int, int], shapes: Shapes) -> tuple[int, int]:
    """The (width, height) that the engine accepts which is nearest to ``size``."""
    (min_w, min_h), (max_w, max_h) = shapes.min, shapes.max
    return min(max(size[0], min_w), max_w), min(max(size[1], min_h), max_h)
