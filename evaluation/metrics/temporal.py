"""Metrics of sequences: added flicker (TR) and luminance that neither source explains.

The motion is found once, from both sources together; every fused sequence is then judged along the same
motion. A sequence is two frames or more, HxW uint8, all of one size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.baselines.trivial import mean
from fusepipe.evaluation.luma import Real, require_luma

# Farneback's flow: scale, levels, window, iterations, neighbourhood and sigma of the polynomial, flags.
FLOW = (0.5, 3, 21, 3, 7, 1.5, 0)
# Where forward and backward flow cancel to this, and the motion stays inside the image, it is valid.
AGREEMENT_PX = 0.5

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TemporalScore:
    """How a fused sequence moves compared with its sources.

    ``ratio``: TR, 1 = no flicker added; NaN where a sequence is constant or its sources do not change at
    all, without anything to compare with. ``luminance_excess``: mean over the steps, grey levels.
    ``excess_of_step`` holds each step, ``error_of_step`` E of each step (NaN where no motion was trusted).
    """

    ratio: float
    luminance_excess: float
    error_of_step: tuple[float, ...]
    excess_of_step: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """Where each pixel of a frame was in the frame before (x, y), and whether that is trusted."""

    x: Map
    y: Map
    trusted: NDArray[np.bool_]


class TemporalReference:
    """The motion of a pair of sequences and what the sources themselves do along it.

    Source: warping error of Lai et al., "Learning blind video temporal consistency", ECCV 2018, with
    Farneback's flow (SCIA 2003), relative to the sources' own.
    """

    def __init__(self, ir: Sequence[Luma8], vis: Sequence[Luma8]) -> None:
        """Finds the flow of each step on (ir + vis) / 2, forward and backward: about 0.1 s a 360x270 step."""
        if len(ir) != len(vis) or len(ir) < 2:
            raise UsageError(f"a temporal metric takes two frames or more of each band; got {len(ir)} and {len(vis)}")
        for a, b in zip(ir, vis, strict=True):
            require_luma(first=ir[0], ir=a, vis=b)
        both = [mean(a, b) for a, b in zip(ir, vis, strict=True)]
        self._steps = [_step(before, now) for before, now in pairwise(both)]
        self._shape = ir[0].shape
        self._source_steps = (_luminance_steps(ir), _luminance_steps(vis))
        # of frames that repeat exactly the flow still has rounding, and a ratio of it would mean nothing
        still = all(np.array_equal(a, b) for images in (ir, vis) for a, b in pairwise(images))
        error = sum(self._relative_error(images)[0] for images in (ir, vis)) / 2.0
        self._source_error = error if error > 0 and not still else math.nan

    def score(self, fused: Sequence[Luma8]) -> TemporalScore:
        """TR and luminance excess of one fused sequence of as many frames of the same size.

        TR = (E_F / s_F) / mean of (E_IR / s_IR, E_VIS / s_VIS); E(X) = mean |X_t - warp(X_t-1)| over all
        pixels of all steps with trusted motion, s(X) the mean of the frames' standard deviations. Luminance
        excess: with d the step of the frame's mean, how far d_F is outside the range of d_IR, d_VIS and 0.
        """
        if len(fused) != len(self._steps) + 1:
            raise UsageError(f"the fused sequence has {len(fused)} frames, its sources {len(self._steps) + 1}")
        for image in fused:
            require_luma(fused=image)
            if image.shape != self._shape:
                raise UsageError(f"fused frames of {image.shape} do not fit sources of {self._shape} (height, width)")
        relative, errors = self._relative_error(fused)
        steps = _luminance_steps(fused)
        low = np.minimum(np.minimum(*self._source_steps), 0.0)
        high = np.maximum(np.maximum(*self._source_steps), 0.0)
        excess = np.maximum(np.maximum(steps - high, low - steps), 0.0)
        return TemporalScore(
            relative / self._source_error, float(excess.mean()), tuple(errors), tuple(float(e) for e in excess)
        )

    def _relative_error(self, images: Sequence[Luma8]) -> tuple[float, list[float]]:
        """E / s of a sequence, and E of each step."""
        total = count = 0.0
        errors: list[float] = []
        for step, (before, now) in zip(self._steps, pairwise(images), strict=True):
            moved = cv2.remap(
                before.astype(np.float32), step.x, step.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            difference = np.abs(now.astype(np.float64) - moved)[step.trusted]
            errors.append(float(difference.mean()) if difference.size else math.nan)
            total += float(difference.sum())
            count += difference.size
        spread = float(np.mean([image.astype(np.float64).std() for image in images]))
        return (total / count / spread if count and spread else math.nan), errors


def _step(before: Luma8, now: Luma8) -> _Step:
    height, width = now.shape
    backward = cv2.calcOpticalFlowFarneback(now, before, None, *FLOW)
    forward = cv2.calcOpticalFlowFarneback(before, now, None, *FLOW)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x += backward[..., 0]
    y += backward[..., 1]
    returned = cv2.remap(forward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = np.hypot(backward[..., 0] + returned[..., 0], backward[..., 1] + returned[..., 1])
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return _Step(x, y, inside & (gap < AGREEMENT_PX))


def _luminance_steps(images: Sequence[Luma8]) -> Real:
    """Differences of the frames' means, one a step."""
    return np.diff([float(image.mean()) for image in images])


def temporal_ratio(ir: Sequence[Luma8], vis: Sequence[Luma8], fused: Sequence[Luma8]) -> float:
    """TR of three sequences of HxW uint8 frames; see :class:`TemporalReference` for several fused ones.

    Range 0 upward; 1 = no flicker added, lower is calmer than the sources (blur is calm, too). NaN where
    a sequence is constant.
    """
    return TemporalReference(ir, vis).score(fused).ratio


def luminance_excess(ir: Sequence[Luma8], vis: Sequence[Luma8], fused: Sequence[Luma8]) -> float:
    """Mean over the steps of how far the fused frame's mean moves beyond what its sources' means explain.

    HxW uint8 frames. Grey levels, 0 upward, lower is better; 0 where F is a source or their mean.
    """
    for a, b, f in zip(ir, vis, fused, strict=True):
        require_luma(ir=a, vis=b, fused=f)
    return TemporalReference(ir, vis).score(fused).luminance_excess
