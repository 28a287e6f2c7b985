"""Pairs per second of a network on one backend, with the copies to and from the GPU, by one rig or several.

Several rigs share an engine as those of one process do: pairs that arrive during a batch form the next one.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8, Size
from fusepipe.core.fuser import Fuser, FuserInfo, FusionBatch, Ticket
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.runtime import MAX_IN_FLIGHT, TensorRtFuser
from fusepipe.engines.choose import gpu_here
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import read_plan
from fusepipe.engines.sharing import SharedEngines
from fusepipe.workflows.gpu_acceptance.acceptance_steps import TORCH_EAGER, TORCH_GRAPH, RateStep

WARM_UP_PAIRS = 5
_IMAGES = 4  # different pairs, in turn
_MARGIN_S = 60.0  # beyond the measurement, for a rig's thread to end


@dataclass(frozen=True, slots=True)
class PairRate:
    """Pairs per second of all rigs, CPU time of the process per pair, and the median from submission to result."""

    device: str
    precision: str
    pairs: int
    pairs_per_s: float
    cpu_ms: float
    latency_ms: float


def measure_rate(step: RateStep) -> PairRate:
    """Measures one backend; raises :class:`EngineError` if it cannot run or a rig fails."""
    table = SharedEngines()
    width, height = step.size
    fusers: list[Fuser] = []
    try:
        for _ in range(step.rigs):
            fusers.append(table.lease(step.runner, lambda: _open(step)))
        for fuser in fusers:
            fuser.prepare(height, width)
        fusers[0].prepare(height, width)  # again, for the batches that the rigs can form together
        return rate_of(fusers, step.size, step.seconds)
    finally:
        for fuser in fusers:
            fuser.close()


def _open(step: RateStep) -> Fuser:
    if step.runner in (TORCH_EAGER, TORCH_GRAPH):
        return _open_torch(step)
    if step.plan is None:
        raise UsageError(f"{step.runner} needs a plan")
    manifest, _ = read_plan(step.plan)
    if not step.dry_run:
        return load_model(manifest.model, engine=str(step.plan), device=step.device)
    info = FuserInfo(
        manifest.model,
        manifest.backend,
        manifest.achieved_precision,
        reason="the test double",
        max_in_flight=MAX_IN_FLIGHT,
        max_batch=manifest.shapes.batch,
    )
    cuda, onnx = FakeCuda(), read_onnx(manifest.model)
    return TensorRtFuser(info, manifest.shapes, manifest.multiple, lambda: FakePlan(cuda, onnx), lambda: cuda)


def _open_torch(step: RateStep) -> Fuser:
    try:
        from fusepipe.engines.backends.torch.captured import TorchCudaFuser, call_directly, capture_cuda_graph
    except ImportError as error:
        raise EngineError(f"PyTorch cannot be imported ({error}): pip install 'fusepipe[train]'") from error
    if step.dry_run:
        device, precision = "cpu", "fp32"
    else:
        gpu, why = gpu_here(step.device)
        if gpu is None:
            raise EngineError(why)
        device, precision = f"cuda:{gpu.index}", "fp16"
    captured = step.runner == TORCH_GRAPH and not step.dry_run
    capture = capture_cuda_graph if captured else call_directly
    return TorchCudaFuser(step.model, read_onnx(step.model), precision, device=device, capture=capture)


def _images(height: int, width: int) -> list[tuple[Luma8, Luma8]]:
    noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, 2, height, width), np.uint8)
    return [(pair[0], pair[1]) for pair in noise]


def rate_of(fusers: list[Fuser], size: Size, seconds: float) -> PairRate:
    """Runs one rig a fuser for ``seconds`` on images of ``size`` (width, height); raises what the first rig raises."""
    images = _images(size[1], size[0])
    failures: list[Exception] = []
    latencies_s: list[float] = []
    go, stop = threading.Barrier(len(fusers) + 1), threading.Event()

    def rig(fuser: Fuser) -> None:
        try:
            _run(fuser, images, lambda count, latency_s: count >= WARM_UP_PAIRS)
            go.wait(_MARGIN_S)

            def until(count: int, latency_s: float) -> bool:
                latencies_s.append(latency_s)
                return stop.is_set()

            _run(fuser, images, until)
        except Exception as error:  # noqa: BLE001 - raised by the caller after all rigs have ended
            failures.append(error)
            go.abort()
            stop.set()

    threads = [
        threading.Thread(target=rig, args=(fuser,), name=f"rig-{number}") for number, fuser in enumerate(fusers, 1)
    ]
    for thread in threads:
        thread.start()
    try:
        go.wait(_MARGIN_S)
        began, used = time.perf_counter(), time.process_time()
        stop.wait(seconds)
    except threading.BrokenBarrierError:
        began, used = time.perf_counter(), time.process_time()
    finally:
        stop.set()
        for thread in threads:
            thread.join(seconds + _MARGIN_S)
    took, cpu_s = time.perf_counter() - began, time.process_time() - used
    if failures:
        raise next((f for f in failures if not isinstance(f, threading.BrokenBarrierError)), failures[0])
    count = len(latencies_s)
    return PairRate(
        fusers[0].info.device,
        fusers[0].info.precision,
        count,
        round(count / took, 1),
        round(1e3 * cpu_s / count, 3),
        round(1e3 * statistics.median(latencies_s), 3),
    )


def _run(fuser: Fuser, images: list[tuple[Luma8, Luma8]], until: Callable[[int, float], bool]) -> None:
    """Keeps as many pairs in flight as the engine takes, until ``until(pairs, latency_s)``; ends with none."""
    flying: deque[tuple[Ticket, float]] = deque()
    started, done, ended = 0, 0, False
    while flying or not ended:
        while not ended and len(flying) < fuser.info.max_in_flight:
            infrared, visible = images[started % len(images)]
            since = time.perf_counter()
            flying.append((fuser.submit(FusionBatch((infrared,), (visible,))), since))
            started += 1
        ticket, since = flying.popleft()
        ticket.result()
        done += 1
        ended = until(done, time.perf_counter() - since) or ended
