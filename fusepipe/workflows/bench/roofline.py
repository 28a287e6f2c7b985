"""``fusepipe bench --roofline``: networks against this CPU's arithmetic ceilings and memory bandwidth, as a picture.

The model is Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009: a computation with I operations per byte of
memory traffic reaches at most min(ceiling, I x bandwidth). All three are measured in the same run. The traffic is an
upper bound: every convolution reads its inputs and weights from memory and writes its outputs there; what stays in the
caches makes a point lie above the slope.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fusepipe.core import machine
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.fuser import Fuser
from fusepipe.core.models import NETWORKS
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.version import __version__
from fusepipe.engines.backends.openvino.network import convolution_macs, convolution_values, cpu_capabilities
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.workflows.bench.engine_speeds import LIMIT_WIDTHS, convolution_rate, fastest_repeat, tiled_pair
from fusepipe.workflows.bench.roofline_picture import Ceiling, Computation, roofline_svg

MODELS = ("stream", "stream-hq")
SIZES = ((640, 480), (1280, 720), (1920, 1080))
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
COPIED_BYTES = 64 << 20  # of each thread: larger than the caches


@dataclass(frozen=True, slots=True)
class RooflineRow:
    """A network at a size: operations (two per multiply-accumulate) per byte, and GOP/s by CPU time on all cores."""

    model: str
    precision: str
    size: tuple[int, int]
    intensity: float
    gops: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """``ceilings`` in GOP/s by precision, ``bandwidth`` in GB/s; ``missing``: why a network did not run."""

    cpu: str
    cores: float
    ceilings: dict[str, float]
    bandwidth: float
    rows: list[RooflineRow] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def svg(self) -> str:
        """The picture."""
        points = [
            Computation(f"{row.model} {row.size[0]}x{row.size[1]}", row.precision, row.intensity, row.gops)
            for row in self.rows
        ]
        ceilings = [Ceiling(name, rate) for name, rate in self.ceilings.items()]
        title = f"fusepipe {__version__} on {self.cpu}, {self.cores:g} cores"
        return roofline_svg(title, ceilings, self.bandwidth, points)


def measure_roofline(models: Sequence[str], sizes: Sequence[tuple[int, int]], time_limit_s: float) -> Roofline:
    """Measures the ceilings, the bandwidth and each network with OpenVINO; ``sizes`` are (width, height).

    Raises :class:`UsageError` for a model that is not a network.
    """
    for model in models:
        if model not in NETWORKS:
            raise UsageError(f"unknown network {model!r}: {did_you_mean(model, sorted(NETWORKS))}")
    cores, able = machine.usable_cores(), cpu_capabilities()
    precisions = [name for name in BYTES if name != "bf16" or "BF16" in able]
    share_s = time_limit_s / (len(precisions) * (1 + len(models) * len(sizes)) + 1)
    channels = LIMIT_WIDTHS[-1]
    ceilings = {name: round(convolution_rate(channels, name, cores, min(share_s, 5.0)), 1) for name in precisions}
    bandwidth = round(copy_bandwidth(max(1, int(cores)), min(share_s, 2.0)), 1)
    roofline = Roofline(machine.processor().name, cores, ceilings, bandwidth)
    for model in models:
        onnx = read_onnx(model)
        for precision in precisions:
            try:
                with load_model(model, "openvino", precision) as fuser:
                    roofline.rows.extend(_row(fuser, onnx, precision, size, cores, share_s) for size in sizes)
            except FusepipeError as error:
                roofline.missing[f"{model} {precision}"] = str(error)
    return roofline


def _row(fuser: Fuser, onnx: bytes, precision: str, size: tuple[int, int], cores: float, seconds: float) -> RooflineRow:
    width, height = size
    pair = tiled_pair(width, height)
    fuser.prepare(height, width)
    _, cpu_s, _ = fastest_repeat(lambda: fuser.fuse(*pair), cores, seconds)
    operations = 2 * convolution_macs(onnx, height, width)[0]
    moved = convolution_values(onnx, height, width) * BYTES[precision]
    intensity, gops = round(operations / moved, 2), round(operations / cpu_s / 1e9, 1)
    return RooflineRow(fuser.info.model, precision, size, intensity, gops, round(1e3 * cpu_s, 2))


def copy_bandwidth(threads: int, seconds: float) -> float:
    """GB/s read and written by copies of arrays larger than the caches, one in each thread; by CPU time."""
    pairs = [(np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)) for _ in range(threads)]

    def copy_all() -> None:
        running = [threading.Thread(target=np.copyto, args=(to, of), name="bench/copy") for of, to in pairs]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    _, copying_s, _ = fastest_repeat(copy_all, threads, seconds)
    return 2 * COPIED_BYTES * threads / copying_s / 1e9
