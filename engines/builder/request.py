"""The inputs of a build: what to build, and the images to calibrate and verify it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepipe.core.frames import Luma8, Warp
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.builder.agreement import Score
from fusepipe.engines.manifest import Shapes

if TYPE_CHECKING:
    from fusepipe.engines.builder.tensorrt_plan import PlanOptions

LumaPair = tuple[Luma8, Luma8]  # infrared and visible, HxW uint8 of one size
MakeWarp = Callable[[tuple[int, int]], Warp]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. ``backend`` and ``precision`` are resolved names, not ``auto``; ``onnx`` is the fp32 network.

    ``convert=False`` takes the graph as it is, for networks quantised by other tools; it must already have the
    precision. ``warp`` puts the registration warp into the engine. ``gpu`` is the GPU to run it on, ``None`` without
    one. ``rebuild`` is the command that builds the engine again.
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
class BuildImages:
    """The pairs to calibrate and to verify with, HxW uint8, and the fusion metrics to record.

    ``description`` names their source in the manifest. ``make_warp`` returns the warp, for images of (width, height),
    to verify engines that register.
    """

    calibration: Sequence[LumaPair]
    verification: Sequence[LumaPair]
    score: Score | None = None
    description: str = ""
    make_warp: MakeWarp | None = None
