"""Automatic gain control of infrared counts: a curve that follows the scene slowly, whatever enters it.

Per-frame stretching flickers: a hot object that enters darkens everything else at once. Here the luma of what fills
the image moves by at most ``SPEED`` levels a second, until the curve does not fit the scene any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Frame, Luma8, Pixels, Plane
from fusepipe.core.gain_curves import CountSample, CurveKind, GainCurve, Region, curve_of, sample_counts
from fusepipe.core.units import MS, S

GainMode = Literal["linear", "plateau", "local"]

SPEED = 1.5  # levels a second
INTERVAL_NS = 100 * MS  # between two measurements
MAX_STEP_NS = 500 * MS  # what a gap in the stream counts for
QUANTILES = np.linspace(0.05, 0.95, 19)  # of the counts, where a change of the curve is seen
CLIPPED_MAX = 0.25  # more of the image than this is black or white: the curve does not fit
CONTRAST_MIN = 0.35  # less of the possible contrast than this: it does not fit either
END = 110.0  # levels: an image that is darker than this, or as bright, is at one end
SETTLED = 20.0  # levels: a curve that did not fit is followed fast until the change left is below this
OVERLAP_MIN = 0.1  # two images with less of their counts in common are different scenes
SHUTTER_NS = 3 * S  # a flat image for longer is not a flat-field correction
DETAIL = 0.7  # how much of the difference from the local mean is added, by the slope of the curve's bulk
DETAIL_MAX = 20.0  # levels: the limit of the halo around a hot object
DETAIL_SIZE = 31  # pixels


@dataclass(frozen=True, slots=True)
class GainSettings:
    """``adapt_ns``: time constant of a curve that does not fit; 0: every image has its own curve.

    ``region``: (x, y, width, height) of the infrared image that is measured.
    """

    mode: GainMode = "linear"
    adapt_ns: int = 1 * S
    region: Region | None = None


@dataclass(slots=True)
class GainControl:
    """The curve of one camera. :meth:`update` takes its images in order, :meth:`apply` maps a plane to luma."""

    settings: GainSettings
    _curve: GainCurve | None = None
    _sample: CountSample | None = None
    _measured_ns: int = 0
    _flat_since_ns: int | None = None
    _exposed: int = -1
    _settling: bool = False
    _weights: tuple[Luma8, NDArray[np.float32]] | None = None
    _table: Luma8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    def update(self, frame: Frame) -> None:
        """Takes the next image; repeated, frozen and flat ones change nothing, as during a flat-field correction.

        The first image of a bit depth has its own curve, whatever it is.
        """
        now_ns, plane = frame.capture_ns, frame.luma
        size = 65536 if plane.pixels.dtype == np.uint16 else 256
        if self._curve is None or len(self._curve) != size:
            self._sample = None  # at the start, or a camera that returned with another bit depth: nothing known fits
        elif frame.original is not None or frame.index == self._exposed:
            return
        self._exposed = frame.index
        if not self._due(now_ns):
            return
        elapsed_ns = now_ns - self._measured_ns
        sample = sample_counts(plane.pixels, plane.bit_depth, self.settings.region)
        if self._closed_shutter(sample, now_ns):
            self._measured_ns = now_ns
            return
        kind: CurveKind = "plateau" if self.settings.mode == "plateau" else "linear"
        target = curve_of(sample, kind, size)
        self._advance(sample, target, min(max(elapsed_ns, 0), MAX_STEP_NS))
        self._sample, self._measured_ns = sample, now_ns

    def needs(self, frame: Frame) -> bool:
        """Whether :meth:`update` would measure the image of this frame, of the same bit depth as the last one."""
        repeated = frame.original is not None or frame.index == self._exposed
        return self._curve is None or (not repeated and self._due(frame.capture_ns))

    def pass_over(self, frame: Frame) -> None:
        """Takes a frame that :meth:`needs` no image of, as :meth:`update` does."""
        if frame.original is None:
            self._exposed = frame.index

    def _due(self, now_ns: int) -> bool:
        settled = self._sample is not None and not self._sample.flat and self.settings.adapt_ns
        return not settled or not 0 <= now_ns - self._measured_ns < INTERVAL_NS

    def saved(self) -> dict[str, Any]:
        """What the curve of the next image depends on; :meth:`restore` takes it."""
        sample = self._sample
        return {
            "curve": self._curve,
            "counts": None if sample is None else sample.counts,
            "noise": 0.0 if sample is None else sample.noise,
            "measured_ns": self._measured_ns,
            "flat_since_ns": self._flat_since_ns,
            "exposed": self._exposed,
            "settling": self._settling,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continues as the gain control that :meth:`saved` this."""
        counts = saved["counts"]
        self._sample = None if counts is None else CountSample(counts, saved["noise"])
        self._measured_ns, self._flat_since_ns = saved["measured_ns"], saved["flat_since_ns"]
        self._exposed, self._settling = saved["exposed"], saved["settling"]
        if saved["curve"] is not None:
            self._set(saved["curve"])

    def _closed_shutter(self, sample: CountSample, now_ns: int) -> bool:
        """Whether a flat image follows others with contrast, for a short time."""
        if not sample.flat or self._sample is None or self._sample.flat:
            self._flat_since_ns = None
            return False
        if self._flat_since_ns is None:
            self._flat_since_ns = now_ns
        return 0 <= now_ns - self._flat_since_ns < SHUTTER_NS

    def _advance(self, sample: CountSample, target: GainCurve, elapsed_ns: int) -> None:
        """Moves the curve towards ``target``."""
        curve, before = self._curve, self._sample
        first = curve is None or before is None or len(curve) != len(target) or before.flat
        if first or not self.settings.adapt_ns or _overlap(before, sample) < OVERLAP_MIN:
            self._set(target)
            return
        assert curve is not None
        share = 1.0 - math.exp(-elapsed_ns / self.settings.adapt_ns)
        seen = sample.counts[np.rint(QUANTILES * (len(sample.counts) - 1)).astype(np.intp)]
        now, then = curve[seen], target[seen]
        change = float(np.abs(then - now).max())
        self._settling = change > SETTLED if self._settling else _misfit(now, then)
        if not self._settling:
            share = min(share, SPEED * elapsed_ns / S / max(change, 1e-6))
        self._set(np.asarray(cv2.addWeighted(curve, 1.0 - share, target, share, 0.0), np.float32).ravel())

    def _set(self, curve: GainCurve) -> None:
        self._curve = curve
        self._table = np.asarray(cv2.convertScaleAbs(curve), np.uint8).ravel()
        self._table.flags.writeable = False

    def apply(self, plane: Plane, view: Luma8 | None = None) -> Luma8:
        """HxW full-range luma of a plane of the camera whose images :meth:`update` got.

        ``view``: HxW, 255 where the plane shows anything, 0 elsewhere.
        """
        pixels = plane.pixels
        if self.settings.mode == "local":
            return self._with_detail(pixels, view)
        return self._mapped(pixels)

    def _with_detail(self, pixels: Pixels, view: Luma8 | None) -> Luma8:
        """The curve, and the difference from the local mean by the slope of the curve's bulk, also where it is flat."""
        assert self._curve is not None and self._sample is not None
        curve, sample = self._curve, self._sample
        low, high = sample.quantile(0.25), sample.quantile(0.75)  # of the bulk, whatever enters
        slope = float(curve[int(high)] - curve[int(low)]) / max(high - low, 1.0)
        small = _small_mean(pixels)
        if view is not None:  # the mean of what is inside the view: its border is no detail
            small = (small * self._weights_of(view)).astype(pixels.dtype)
        mean = cv2.resize(small, pixels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        limit = min(32767, round(DETAIL_MAX / (DETAIL * max(slope, 1e-3))))
        detail = np.clip(cv2.subtract(pixels, mean, dtype=cv2.CV_16S), -limit, limit)
        base = self._mapped(pixels).astype(np.int16)
        luma = cv2.addWeighted(base, 1.0, detail, DETAIL * slope, 0.0)  # both int16: mixed types are slow
        return np.asarray(cv2.convertScaleAbs(cv2.max(luma, 0.0)), np.uint8)

    def _mapped(self, pixels: Pixels) -> Luma8:
        """The curve of each pixel."""
        return np.asarray(cv2.LUT(pixels, self._table), np.uint8)

    def _weights_of(self, view: Luma8) -> NDArray[np.float32]:
        """What a small mean over ``view`` and zeros around it is multiplied by, for the mean over the view alone."""
        if self._weights is None or self._weights[0] is not view:
            share = _small_mean((view > 0).astype(np.float32))
            self._weights = view, np.where(share > 1e-3, 1.0 / np.maximum(share, 1e-3), 1.0).astype(np.float32)
        return self._weights[1]


def _small_mean(image: NDArray[Any]) -> NDArray[Any]:
    """The mean of about ``DETAIL_SIZE`` pixels around each, in a quarter of the size: in half the time."""
    small = image
    for share in (2, 4):  # twice by two: the library is slow at four
        size = max(1, image.shape[1] // share), max(1, image.shape[0] // share)
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    side = DETAIL_SIZE // 4  # an odd number: an even one would move it
    return np.asarray(cv2.blur(small, (side, side)))


def _misfit(now: GainCurve, then: GainCurve) -> bool:
    """Whether luma ``now`` of the scene's quantiles is clipped, at one end, or lacks contrast that ``then`` has."""
    clipped = float(((now < 1.0) | (now > 254.0)).mean() - ((then < 1.0) | (then > 254.0)).mean())
    at_one_end = now[0] > 255.0 - END or now[-1] < END
    return bool(at_one_end) or clipped > CLIPPED_MAX or float(np.ptp(now)) < CONTRAST_MIN * float(np.ptp(then))


def _overlap(one: CountSample | None, other: CountSample) -> float:
    """The share of the counts that two images have in common: 0 of different scenes, 1 of equal ones."""
    if one is None:
        return 0.0
    low = min(one.quantile(0.005), other.quantile(0.005))
    high = max(one.quantile(0.995), other.quantile(0.995))
    edges = np.linspace(low, high + 1, 65)  # without a spot of 1,000 K, which would put all else into one bin
    shares = [np.diff(np.searchsorted(sample.counts, edges)) / len(sample.counts) for sample in (one, other)]
    return float(np.minimum(*shares).sum())
