"""Interpolation of a slow infrared camera: the image between two of its images, along the motion between them.

Optical flow in a small copy (Kroeger et al. 2016, DIS) gives the motion, and both images are moved to the time between
them and blended (Jiang et al. 2018, Super SloMo, equation 4: the flow from that time, without a network). The nearer a
time is to that of an image, the more the result is that image, which it equals at its time. It is a guess: what is
hidden in one of the images, or moves further than ``MAX_SHARE``, is blended where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Frame, FramePair, Luma8, PairState, Pixels, Plane

COARSE_PX = 320  # longest side of the images in which motion is measured
MIN_PX = 16  # of their shorter side; smaller ones are held
MAX_SHARE = 0.125  # of the image's width that anything moves, from one image to the next
CONSISTENT_PX = 10.0  # how far forward and backward flow may lead from where they began: less leaves more ghosts
CHANGED_MAX = 0.7  # of the difference that two unrelated images have: what motion leaves is a cut
PERCENTILES = 1.0, 99.0

Flow = NDArray[np.float32]
Trust = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Between two images, in the coarse copy: HxWx2 float32 pixels forward and backward.

    ``trust``: HxW, 1 where both agree, 0 where the images are not moved.
    """

    forward: Flow
    backward: Flow
    trust: Trust


class Interpolation:
    """Computes the infrared image of pairs that lie ``between`` two.

    They are held, with the earlier one, where the two differ in type or size, are identical (a frozen camera) or show
    different scenes (a cut).
    """

    def __init__(self) -> None:
        self._last: tuple[Frame, Frame, Motion | None] | None = None
        self._dis: cv2.DISOpticalFlow | None = None

    def __call__(self, pair: FramePair) -> FramePair:
        between, before = pair.between, pair.infrared
        if between is None or before is None:
            return pair
        motion = self._motion(before, between.following)
        if motion is None:
            return replace(pair, between=None, state=PairState.HELD)
        pixels = image_between(before.luma.pixels, between.following.luma.pixels, motion, between.share)
        step_ns = between.following.capture_ns - before.capture_ns
        made = replace(
            before,
            planes=(replace(before.luma, pixels=pixels), *before.chroma),
            capture_ns=before.capture_ns + round(between.share * step_ns),
            original=before.exposed,  # its counts are not recorded, and nothing is estimated from them
        )
        return replace(pair, infrared=made, between=None)

    def _motion(self, before: Frame, after: Frame) -> Motion | None:
        """The motion between two frames, measured once for all pairs between them."""
        if self._last is None or self._last[0] is not before or self._last[1] is not after:
            if self._dis is None:
                self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            self._last = before, after, motion_between(before.luma, after.luma, self._dis)
        return self._last[2]


def motion_between(before: Plane, after: Plane, dis: cv2.DISOpticalFlow) -> Motion | None:
    """The motion between two images of one camera; ``None`` where nothing can be said between them."""
    same_kind = before.pixels.shape == after.pixels.shape and before.bit_depth == after.bit_depth
    if not same_kind or np.array_equal(before.pixels, after.pixels):
        return None
    one, other = _coarse(before.pixels, after.pixels)
    if min(one.shape) < MIN_PX:
        return None
    forward, backward = _flow(dis, one, other), _flow(dis, other, one)
    if _is_cut(one, other, forward):
        return None
    apart = np.linalg.norm(forward + _moved(backward, forward), axis=2)
    far = np.linalg.norm(forward, axis=2) > MAX_SHARE * one.shape[1]
    trusted = ((apart <= CONSISTENT_PX) & ~far).astype(np.float32)
    return Motion(forward, backward, cast(Trust, cv2.blur(cv2.erode(trusted, np.ones((3, 3))), (5, 5))))


def image_between(before: Pixels, after: Pixels, motion: Motion, share: float) -> Pixels:
    """HxW counts at ``share``, 0..1, of the time from ``before`` to ``after``; each of them at its own time."""
    if share <= 0 or share >= 1:
        return before if share <= 0 else after
    rest = 1 - share
    to_before = -rest * share * motion.forward + share * share * motion.backward
    to_after = rest * rest * motion.forward - share * rest * motion.backward
    along = cv2.addWeighted(_carried(before, to_before), rest, _carried(after, to_after), share, 0.0, dtype=cv2.CV_32F)
    standing = cv2.addWeighted(before, rest, after, share, 0.0, dtype=cv2.CV_32F)
    trust = cv2.resize(motion.trust, before.shape[::-1])
    mixed = cv2.add(standing, cv2.multiply(cv2.subtract(along, standing), trust))
    return cast(Pixels, np.rint(mixed).astype(before.dtype))


def _carried(image: Pixels, flow: Flow) -> Pixels:
    """The image moved by a coarse flow."""
    height, width = image.shape
    wide, high = (cv2.resize(flow[..., axis], (width, height)) for axis in (0, 1))
    x = cv2.add(cv2.multiply(wide, width / flow.shape[1]), _ramp(height, width, 0))
    y = cv2.add(cv2.multiply(high, height / flow.shape[0]), _ramp(height, width, 1))
    return cast(Pixels, cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


@lru_cache(maxsize=8)
def _ramp(height: int, width: int, axis: int) -> NDArray[np.float32]:
    """The x (axis 0) or y (axis 1) of each pixel."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cast(NDArray[np.float32], np.ascontiguousarray((x, y)[axis]))


def _coarse(before: Pixels, after: Pixels) -> tuple[Luma8, Luma8]:
    """Small 8-bit copies of both, by the range of the counts of the two together."""
    height, width = before.shape
    shrunk = min(1.0, COARSE_PX / max(height, width))
    size = max(1, round(width * shrunk)), max(1, round(height * shrunk))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) for image in (before, after)]
    low, high = np.percentile(np.stack(small), PERCENTILES)
    scale = 255.0 / max(high - low, 8.0)
    one, other = (np.clip((image - low) * scale, 0, 255).astype(np.uint8) for image in small)
    return one, other


def _flow(dis: cv2.DISOpticalFlow, one: Luma8, other: Luma8) -> Flow:
    return cast(Flow, dis.calc(one, other, np.zeros((*one.shape, 2), np.float32)))


def _moved(image: NDArray[np.generic], flow: Flow) -> NDArray[np.float32]:
    """What lies where ``flow`` leads, HxW or HxWx2; the border is repeated."""
    x, y = (flow[..., axis] + _ramp(*flow.shape[:2], axis) for axis in (0, 1))
    taken = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(taken)


def _is_cut(one: Luma8, other: Luma8, forward: Flow) -> bool:
    """Whether motion does not explain the difference: it is as large as that to a plain image."""
    left = np.abs(one.astype(np.float32) - _moved(other, forward)).mean()
    unrelated = np.mean([np.abs(image - one.mean()).mean() for image in (one, other)])
    return bool(left > CHANGED_MAX * unrelated)
