"""The CPU time that each mode of gain control takes per infrared image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from fusepipe.core.frames import Frame
from fusepipe.pipeline.stages.gain_control import INTERVAL_NS, GainControl, GainMode, GainSettings
from fusepipe.workflows.bench.cpu_time import SIZES, StepTable, least_and_median_ms, on_this_machine, one_thread
from fusepipe.workflows.bench.view_speeds import made_frame

MEASURING = "measuring"


@dataclass(frozen=True, slots=True)
class GainSpeed:
    """One mode at (width, height), or what measuring the counts takes in it, ten times a second: CPU time in ms."""

    mode: str
    size: tuple[int, int]
    least_ms: float
    median_ms: float


def bench_gain(size: tuple[int, int] | None, time_limit_s: float) -> StepTable[GainSpeed]:
    """Each mode on noisy 16-bit counts, on one core, at ``size`` or at :data:`SIZES`, (width, height).

    A mode that reaches its share of the time limit is measured with fewer images.
    """
    sizes = SIZES if size is None else (size,)
    modes: tuple[GainMode, ...] = get_args(GainMode)
    share_s = time_limit_s / (2 * len(sizes) * len(modes))
    rows = []
    with one_thread():
        for each in sizes:
            infrared = made_frame(*each).pair.infrared
            assert infrared is not None
            for mode in modes:
                control = GainControl(GainSettings(mode))
                control.update(infrared)
                images = _Images(control, infrared)
                apply = partial(control.apply, infrared.luma)
                rows.append(GainSpeed(mode, each, *least_and_median_ms(apply, share_s)))
                rows.append(GainSpeed(f"{mode}, {MEASURING}", each, *least_and_median_ms(images.measure, share_s)))
    return on_this_machine(rows)


@dataclass(slots=True)
class _Images:
    """Gives ``control`` images that are as far apart as its measurements."""

    control: GainControl
    image: Frame

    def measure(self) -> None:
        index, capture_ns = self.image.index + 1, self.image.capture_ns + INTERVAL_NS
        self.image = replace(self.image, index=index, capture_ns=capture_ns)
        self.control.update(self.image)
