"""On a real GPU: engines built, verified by running them, and run through both CUDA packages."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, PAIRS, SHAPES, build_request
from helpers.gpu_here import require_gpu

from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import FusionBatch
from fusepipe.engines.backends.cuda.api import IMPLEMENTATIONS, OutOfGpuMemoryError, open_cuda
from fusepipe.engines.backends.tensorrt.runtime import kernel_cache, open_plan
from fusepipe.engines.builder.agreement import measure_agreement, require_agreement
from fusepipe.engines.builder.build import build
from fusepipe.engines.builder.verify import register_on_cpu
from fusepipe.engines.load import load_model
from fusepipe.engines.manifest import read_plan
from fusepipe.engines.verification import Verification
from fusepipe.workflows.build_engine.image_pairs import verification_warp

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("engine_cache")]


@pytest.fixture(params=list(IMPLEMENTATIONS))
def seam(request: pytest.FixtureRequest) -> str:
    """The package to speak CUDA through."""
    require_gpu()
    name = str(request.param)
    if importlib.util.find_spec(name.split("-")[0]) is None:
        pytest.skip(f"{name} is not installed")
    return name


def test_bytes_go_to_the_gpu_and_back_also_in_a_graph(seam: str) -> None:
    cuda = open_cuda(seam)
    cuda.bind_thread()
    assert cuda.name == seam and cuda.gpu().sm.startswith("SM")
    size = 4096
    stream, event, memory = cuda.stream(), cuda.event(), cuda.allocate(size)
    there, back = cuda.pinned(size), cuda.pinned(size)

    def copy() -> None:
        cuda.copy_in(memory, there, size, stream)
        cuda.copy_out(back, memory, size, stream)

    there.view()[:] = np.arange(size) % 251
    copy()
    cuda.record(event, stream)
    cuda.wait(event)
    assert np.array_equal(back.view(), there.view())
    assert cuda.has_graphs == (seam != "pycuda")
    if cuda.has_graphs:
        cuda.begin_capture(stream)
        copy()
        graph = cuda.end_capture(stream)
        for step in (1, 2):
            there.view()[:] = np.arange(size) * step % 241
            cuda.launch(graph, stream)
            cuda.record(event, stream)
            cuda.wait(event)
            assert np.array_equal(back.view(), there.view())
        cuda.destroy_graph(graph)
    there.close()
    back.close()
    cuda.free(memory)
    cuda.destroy_event(event)
    cuda.destroy_stream(stream)
    cuda.close()


def test_more_memory_than_there_is_is_refused_in_cudas_words(seam: str) -> None:
    cuda = open_cuda(seam)
    cuda.bind_thread()
    with pytest.raises(OutOfGpuMemoryError, match=r"CUDA: .*memory"):
        cuda.allocate(1 << 50)
    cuda.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_an_engine_is_built_and_verified_on_the_gpu(precision: str, seam: str) -> None:
    backend, gpu = require_gpu()
    if (backend, precision) == ("tensorrt-rtx", "int8"):
        pytest.skip("TensorRT-RTX runs no int8 convolutions")
    built = build(build_request(backend, precision, gpu=gpu), IMAGES)
    assert built.manifest.verification.executed and gpu.name in built.manifest.verification.subject
    assert set(built.manifest.layers) == {precision}
    manifest, plan = read_plan(built.plan)
    names = manifest.model, manifest.backend, manifest.achieved_precision
    given = []
    # twice: TensorRT-RTX takes the kernels of the first time
    for _ in range(2):
        with open_plan(*names, plan, SHAPES, multiple=manifest.multiple, cuda=lambda: open_cuda(seam)) as fuser:
            # the second run of a size is captured, the third launched
            given += [[fuser.fuse(*pair) for _ in range(3)] for pair in PAIRS]
    if backend == "tensorrt-rtx":
        assert list(kernel_cache().path("").parent.glob("*.blob"))
    with load_model("stream", "openvino", "fp32") as exact:
        expected = [exact.fuse(*pair) for pair in PAIRS]
    for repeat in range(3):
        first = [images[repeat] for images in given[: len(PAIRS)]]
        found = measure_agreement("fp32", PAIRS, expected, first)
        require_agreement(Verification("the plan", True, (found,)), precision)


def test_an_engine_with_the_warp_gives_what_remap_and_the_cpu_give(seam: str) -> None:
    """``build-engine --warp``: GridSample on the GPU, with two warps after each other and in one batch."""
    backend, gpu = require_gpu()
    images = replace(IMAGES, make_warp=verification_warp)
    built = build(build_request(backend, "fp32", gpu=gpu, warp=True), images)
    assert built.manifest.warp and built.manifest.verification.executed
    manifest, plan = read_plan(built.plan)
    (height, width), names = PAIRS[0][1].shape, (manifest.model, manifest.backend, manifest.achieved_precision)
    warps = [verification_warp((width, height)), None]
    with (
        open_plan(
            *names, plan, manifest.shapes, multiple=manifest.multiple, warp=True, cuda=lambda: open_cuda(seam)
        ) as fuser,
        load_model("stream", "openvino", "fp32") as exact,
    ):
        expected = []
        for (infrared, visible), warp in zip(PAIRS[:2], warps, strict=True):
            expected.append(exact.fuse(*register_on_cpu((infrared, visible), warp)))
            for _ in range(3):
                batch = FusionBatch((infrared,), (visible,), ("",), (warp,))
                difference = np.abs(fuser.submit(batch).result()[0].astype(int) - expected[-1])
                assert difference.max() <= 2 and difference.mean() < 0.05
        together = FusionBatch([p[0] for p in PAIRS[:2]], [p[1] for p in PAIRS[:2]], ("a", "b"), warps)
        for image, wanted in zip(fuser.submit(together).result(), expected, strict=True):
            assert np.abs(image.astype(int) - wanted).max() <= 2


def test_a_plan_for_another_gpu_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    backend, gpu = require_gpu()
    built = build(build_request(backend, "fp16", gpu=gpu), IMAGES, tmp_path / "x.plan")
    manifest = tmp_path / "x.plan.json"
    if backend == "tensorrt":
        manifest.write_text(manifest.read_text().replace(gpu.name, "RTX 9999"))
    else:
        manifest.write_text(manifest.read_text().replace('"targets": []', '"targets": ["SM12"]'))
    with pytest.raises(EngineError, match=r"does not fit here: it was built (on RTX 9999|for SM12)"):
        load_model("stream", engine=str(built.plan))
