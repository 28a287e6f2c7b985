"""``fusepipe bench --engines``: every backend and precision of a network, against the arithmetic limit of the CPU.

The limit is the network's multiply-accumulates at the rate at which this CPU computes a bare chain of 3x3
convolutions of the network's width, measured in the same run. Times are CPU time divided by the cores as well
as wall time: on a busy machine the former estimates the time on an idle one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fusepipe.core import machine
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import Fuser
from fusepipe.core.models import NETWORKS
from fusepipe.core.suggest import did_you_mean
from fusepipe.engines import choose
from fusepipe.engines.backends.openvino.network import ConvolutionChain, convolution_macs, cpu_capabilities
from fusepipe.engines.builder.agreement import measure_agreement
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.workflows.build_engine.image_pairs import street_pairs

RUNS = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
LIMIT_WIDTHS = (16, 64)


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One backend and precision. ``cpu_ms`` is CPU time divided by the cores; both are of the fastest repeat.

    ``of_limit`` is ``cpu_ms`` over the arithmetic limit, ``of_torch`` over PyTorch's; ``None`` where not known.
    """

    backend: str
    precision: str
    wall_ms: float
    cpu_ms: float
    pairs_per_s: float
    psnr_db: float
    max_abs: int
    of_limit: float | None = None
    of_torch: float | None = None


@dataclass(frozen=True, slots=True)
class EngineBench:
    """The table; ``gops`` is the measured rate by precision, ``missing`` the reason for each run that failed."""

    model: str
    size: tuple[int, int]
    cores: float
    cpu: str
    gmacs: float
    channels: int
    gops: dict[str, float]
    rows: list[EngineRow] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bench_engines(model: str, size: tuple[int, int], time_limit_s: float) -> EngineBench:
    """Measures all; ``size`` is (width, height). Raises :class:`UsageError` for a model that is not a network."""
    if model not in NETWORKS:
        raise UsageError(f"unknown network {model!r}: {did_you_mean(model, sorted(NETWORKS))}")
    (width, height), cores = size, machine.usable_cores()
    macs, widest = convolution_macs(read_onnx(model), height, width)
    channels = min(LIMIT_WIDTHS, key=lambda known: abs(known - widest))
    able = cpu_capabilities()
    precisions = [name for name in ("fp32", "bf16", "int8") if name != "bf16" or "BF16" in able]
    share_s = time_limit_s / (len(RUNS) + len(precisions) + 2)
    gops = {name: convolution_rate(channels, name, cores, min(share_s, 5.0)) for name in precisions}
    pair = tiled_pair(width, height)
    bench = EngineBench(
        model,
        size,
        cores,
        machine.processor().name,
        round(macs / 1e9, 3),
        channels,
        {k: round(v, 1) for k, v in gops.items()},
    )
    with load_model(model, "openvino", "fp32") as exact:
        expected = exact.fuse(*pair)
    runs = list(RUNS)
    gpu, why_not = choose.gpu_here()
    if gpu is None:
        bench.missing["tensorrt, tensorrt-rtx"] = why_not
    else:
        runs += [("tensorrt", precision) for precision in ("fp32", "fp16", "int8")]
        runs += [("tensorrt-rtx", precision) for precision in ("fp32", "fp16")]
    torch_ms: float | None = None
    for backend, precision in runs:
        try:
            with load_model(model, backend, precision) as fuser:
                row = _row(fuser, pair, expected, cores, share_s)
        except FusepipeError as error:
            bench.missing[f"{backend} {precision}"] = str(error)
            continue
        torch_ms = row.cpu_ms if backend == "torch" else torch_ms
        limit_ms = 2e3 * macs / (gops[precision] * 1e9) if backend == "openvino" else None
        of_limit = None if limit_ms is None else round(row.cpu_ms / limit_ms, 2)
        of_torch = None if torch_ms is None else round(row.cpu_ms / torch_ms, 3)
        bench.rows.append(replace(row, of_limit=of_limit, of_torch=of_torch))
    return bench


def tiled_pair(width: int, height: int) -> tuple[Luma8, Luma8]:
    """A pair of the street, repeated to the size."""
    infrared, visible = street_pairs(light="day", frames=1, seed=21)[0]
    repeat = (-(-height // visible.shape[0]), -(-width // visible.shape[1]))
    return np.tile(infrared, repeat)[:height, :width].copy(), np.tile(visible, repeat)[:height, :width].copy()


def convolution_rate(channels: int, precision: str, cores: float, seconds: float) -> float:
    """GOP/s (two per multiply-accumulate) of the chain, by CPU time divided by the cores."""
    chain = ConvolutionChain(channels, 240, 320, precision)
    _, cpu_s, _ = fastest_repeat(chain.run, cores, seconds)
    return 2 * chain.macs / cpu_s / 1e9


def _row(fuser: Fuser, pair: tuple[Luma8, Luma8], expected: Luma8, cores: float, seconds: float) -> EngineRow:
    fuser.prepare(*pair[1].shape)
    agreement = measure_agreement("the fp32 ONNX", [pair], [expected], [fuser.fuse(*pair)])
    wall_s, cpu_s, _ = fastest_repeat(lambda: fuser.fuse(*pair), cores, seconds)
    info = fuser.info
    return EngineRow(
        info.backend,
        info.precision,
        round(1e3 * wall_s, 2),
        round(1e3 * cpu_s, 2),
        round(1 / wall_s, 1),
        agreement.psnr_db,
        agreement.max_abs,
    )


def fastest_repeat(function: Callable[[], object], cores: float, seconds: float) -> tuple[float, float, int]:
    """(wall seconds, CPU seconds divided by the cores, repeats) of the fastest repeat within ``seconds``."""
    function()  # the first one warms caches
    wall, cpu, count, began = float("inf"), float("inf"), 0, time.perf_counter()
    while count < 3 or (time.perf_counter() - began < seconds and count < 200):
        wall_before, cpu_before = time.perf_counter(), time.process_time()
        function()
        wall = min(wall, time.perf_counter() - wall_before)
        cpu = min(cpu, (time.process_time() - cpu_before) / cores)
        count += 1
    return wall, cpu, count
