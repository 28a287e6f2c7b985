"""The CPU time that each view of an output takes per frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import cv2
import numpy as np

from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.view_settings import MODES, AnnotationSettings, HotSettings, ViewMode, ViewSettings
from fusepipe.pipeline.views.output_view import OutputView
from fusepipe.workflows.bench.cpu_time import SIZES, StepTable, least_and_median_ms, on_this_machine, one_thread

_KELVIN = Radiometry("kelvin", 0.01)


@dataclass(frozen=True, slots=True)
class ViewSpeed:
    """One view at (width, height): the least and the median CPU time of a frame, in ms."""

    view: str
    size: tuple[int, int]
    least_ms: float
    median_ms: float


def bench_views(size: tuple[int, int] | None, time_limit_s: float) -> StepTable[ViewSpeed]:
    """Each view of a noisy 16-bit pair, on one core, at ``size`` or at :data:`SIZES`, (width, height).

    A view that reaches its share of the time limit is measured with fewer frames.
    """
    sizes = SIZES if size is None else (size,)
    views = dict(settings_by_name())
    share_s = time_limit_s / (len(sizes) * len(views))
    rows = []
    with one_thread():
        for each in sizes:
            frame = made_frame(*each)
            for name, settings in views.items():
                view = OutputView(settings)
                view(frame)  # warm-up: builds its tables
                rows.append(ViewSpeed(name, each, *least_and_median_ms(partial(view, frame), share_s)))
    return on_this_machine(rows)


def settings_by_name() -> Iterator[tuple[str, ViewSettings]]:
    """Every mode, in false colours where it can be, and every kind of marks on the fused image."""
    modes: list[ViewMode] = [mode for mode in MODES if mode != "blink"]  # it is one of its two cameras
    for mode in modes:
        yield mode, ViewSettings(mode, "auto" if mode == "fused" else "inferno")
    yield "infrared white-hot", ViewSettings("infrared", "white-hot")
    yield "fused desaturate", ViewSettings(colour="desaturate")
    yield "fused hot outline", ViewSettings(hot=HotSettings())
    yield "fused hot tint", ViewSettings(hot=HotSettings(style="tint"))
    yield "fused isotherms (3)", ViewSettings(isotherms_k=(290.0, 300.0, 310.0))
    notes = AnnotationSettings(True, True, True, ((0.3, 0.7),), ((0.5, 0.3, 0.2, 0.3),), True)
    yield "infrared annotated", ViewSettings("infrared", "inferno", annotations=notes)


def made_frame(width: int, height: int) -> FusedFrame:
    """A fused pair of smoothed noise; the infrared image has 16-bit counts of 280 to 320 K."""
    random = np.random.default_rng(1)
    smooth = [
        cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), width / 40)
        for _ in range(2)
    ]
    unit = [cv2.normalize(image, None, 0, 1, cv2.NORM_MINMAX) for image in smooth]
    levels = [np.asarray(255 * image, np.uint8) for image in unit]
    counts = np.asarray(28000 + 4000 * unit[0] + random.normal(0, 5, (height, width)), np.uint16)
    half = ((height + 1) // 2, (width + 1) // 2)
    chroma = tuple(Plane(np.full(half, level, np.uint8)) for level in (110, 150))
    at = (0, 0, 0, Fraction(1, 1000))
    infrared = Frame(Band.INFRARED, (Plane(counts, 16),), *at, radiometry=_KELVIN)
    visible = Frame(Band.VISIBLE, (Plane(levels[1]), *chroma), *at)
    luma = Plane(levels[0])
    pair = FramePair(0, PairState.FUSED, Band.VISIBLE, infrared, visible, 0, luma=luma, registered=infrared.luma)
    fused = Plane(np.asarray(cv2.addWeighted(levels[0], 0.5, levels[1], 0.5, 0), np.uint8))
    return FusedFrame(pair, (fused, *chroma), PairState.FUSED, 0, *at[1:])
