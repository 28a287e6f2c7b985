"""flowD: how much a fused sequence changes along the motion of the visible one.

The motion is that of the visible frames alone, by dense inverse search with a step of one frame; the last fused frame
is warped onto this one. Low contrast lowers flowD, so it is read relative to the fused frames' standard deviation.

Source: VideoFusion (CVPR 2026), with T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016,
as OpenCV implements it, preset medium.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import require_luma

MINIMUM_SIDE_PX = 16
"""OpenCV's dense inverse search needs a few patches of 8 pixels; smaller frames are extended by their edge."""

Flow = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FlowScore:
    """``difference``: flowD, grey levels. ``relative``: flowD over the mean of the fused frames' standard deviations.

    ``relative`` is NaN where the fused sequence is constant.
    """

    difference: float
    relative: float


class FlowReference:
    """The optical flow of a visible sequence, found once for all fused sequences that are scored with it."""

    def __init__(self, vis: Sequence[Luma8]) -> None:
        """Finds the flow of each step, from a frame to the one before: about 20 ms for 640x480."""
        if len(vis) < 2:
            raise UsageError(f"a temporal metric takes two frames or more; got {len(vis)}")
        for frame in vis:
            require_luma(first=vis[0], vis=frame)
        self._shape = vis[0].shape
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flows = [_flow(search, now, before) for before, now in pairwise(vis)]

    def score(self, fused: Sequence[Luma8]) -> FlowScore:
        """flowD of as many fused frames of the same size: mean |F_t - warp(F_t-1)| over all pixels and steps.

        The warp is bilinear; beyond the border the edge is repeated.
        """
        if len(fused) != len(self._flows) + 1:
            raise UsageError(f"the fused sequence has {len(fused)} frames, its sources {len(self._flows) + 1}")
        for image in fused:
            require_luma(fused=image)
            if image.shape != self._shape:
                raise UsageError(f"fused frames of {image.shape} do not fit sources of {self._shape} (height, width)")
        errors = []
        y, x = np.mgrid[0 : self._shape[0], 0 : self._shape[1]].astype(np.float32)
        for flow, (before, now) in zip(self._flows, pairwise(fused), strict=True):
            moved = cv2.remap(
                before.astype(np.float32),
                x + flow[..., 0],
                y + flow[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            errors.append(float(np.abs(now.astype(np.float64) - moved).mean()))
        difference = math.fsum(errors) / len(errors)
        spread = float(np.mean([image.astype(np.float64).std() for image in fused]))
        return FlowScore(difference, difference / spread if spread else math.nan)


def _flow(search: cv2.DISOpticalFlow, now: Luma8, before: Luma8) -> Flow:
    """HxWx2 float32 pixels: where each pixel of ``now`` was in ``before``, minus its own position."""
    height, width = now.shape
    extend = ((0, max(0, MINIMUM_SIDE_PX - height)), (0, max(0, MINIMUM_SIDE_PX - width)))
    here, there = (np.ascontiguousarray(np.pad(image, extend, mode="edge")) for image in (now, before))
    initial: Any = None  # OpenCV's type hints lack that it may be absent
    return np.asarray(search.calc(here, there, initial)[:height, :width], np.float32)


def flow_difference(ir: Sequence[Luma8], vis: Sequence[Luma8], fused: Sequence[Luma8]) -> float:
    """flowD of one fused sequence of HxW uint8 frames, grey levels from 0; see :class:`FlowReference` for several."""
    return FlowReference(vis).score(fused).difference


def relative_flow_difference(ir: Sequence[Luma8], vis: Sequence[Luma8], fused: Sequence[Luma8]) -> float:
    """flowD over the fused frames' standard deviation; NaN where they are constant."""
    return FlowReference(vis).score(fused).relative
