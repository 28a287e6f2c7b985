"""What a build is asked for, and what it is measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepipe.core.frames import Luma8, Warp
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.builder.proof import Score
from fusepipe.engines.manifest import Shapes

if TYPE_CHECKING:
    from fusepipe.engines.builder.tensorrt import PlanOptions

Pair = tuple[Luma8, Luma8]
WarpOf = Callable[[tuple[int, int]], Warp]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. ``backend`` and ``precision`` are names, not ``auto``; ``onnx`` is the fp32 network.

    ``convert`` off takes the graph as it is (one that was quantised by other tools), which then has to have
    the precision. ``warp`` puts the registration into the engine's graph. ``gpu`` is this machine's, ``None`` without
    one. ``rebuild`` is the command that builds it.
    """

    model: str
    onnx: bytes
    backend: str
    precision: str
    shapes: Shapes
    options: PlanOptions
    convert: bool = True
    warp: bool = False
    gpu: Gpu | None = None
    rebuild: str = ""


@dataclass(frozen=True, slots=True)
class Materials:
    """What a build is measured with: calibration pairs and proof pairs (HxW uint8), and the metrics.

    ``warp_of`` makes the warp, for images of (width, height), that an engine with the registration is proven with.
    """

    calibration: Sequence[Pair]
    proof: Sequence[Pair]
    score: Score | None = None
    described: str = ""
    warp_of: WarpOf | None = None
