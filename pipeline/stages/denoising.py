"""Noise reduction before fusion: a noisy camera is smoothed by its measured noise, a clean one is left as it is.

The networks take noise for detail and carry it into the fused image. The noise is measured in the camera's own pixels,
before registration enlarges its grain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fusepipe.core.frames import Band, Frame, FramePair, Plane
from fusepipe.core.gain_curves import sample_counts
from fusepipe.core.noise import measured_noise, without_noise
from fusepipe.core.units import S

INTERVAL_NS = 1 * S  # between two measurements
FOLLOW = 0.3  # of the difference to a new one
START, STOP = 4.2, 3.2  # levels of 8 bits: clean images have less, whatever their texture
SHOWN = 232.0  # levels that gain control gives the range of 16-bit counts


class NoiseReduction:
    """Of one camera. ``note`` is told once when it begins."""

    def __init__(self, band: Band, note: Callable[[str], None]) -> None:
        self._band, self._note = band, note
        self._measured_ns: int | None = None
        self._dtype: np.dtype[np.unsignedinteger] | None = None
        self._noise = 0.0  # of a pixel, in its own units
        self._on = self._noted = False
        self._last: tuple[Frame, Frame] | None = None

    def __call__(self, frame: Frame) -> Frame:
        """The frame, smoothed if the camera is noisy; the same object if not."""
        if self._last is None or self._last[0] is not frame:
            self._last = frame, self._quiet(frame)
        return self._last[1]

    def needs(self, frame: Frame) -> bool:
        """Whether a call would measure the image of this frame, of the same type as the last one."""
        due = self._measured_ns is None or not 0 <= frame.capture_ns - self._measured_ns < INTERVAL_NS
        return self._dtype is None or (due and frame.original is None)

    def saved(self) -> dict[str, Any]:
        """What the next frames depend on; :meth:`restore` takes it."""
        return {
            "measured_ns": self._measured_ns,
            "dtype": None if self._dtype is None else self._dtype.str,
            "noise": float(self._noise),
            "on": bool(self._on),
            "noted": self._noted,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continues as the noise reduction that :meth:`saved` this."""
        self._measured_ns, self._noise = saved["measured_ns"], saved["noise"]
        self._dtype = None if saved["dtype"] is None else np.dtype(saved["dtype"])
        self._on, self._noted = saved["on"], saved["noted"]

    def _quiet(self, frame: Frame) -> Frame:
        plane = frame.luma
        if plane.pixels.dtype != self._dtype:
            self._dtype, self._measured_ns, self._on = plane.pixels.dtype, None, False
        if self.needs(frame):
            self._measure(plane)
            self._measured_ns = frame.capture_ns
        if not self._on:
            return frame
        quiet = replace(plane, pixels=without_noise(plane.pixels, self._noise))
        return replace(frame, planes=(quiet, *frame.chroma))

    def _measure(self, plane: Plane) -> None:
        found = measured_noise(plane.pixels)
        self._noise = found if self._measured_ns is None else self._noise + FOLLOW * (found - self._noise)
        shown = self._noise
        if plane.pixels.dtype == np.uint16:
            counts = sample_counts(plane.pixels, plane.bit_depth)
            shown *= SHOWN / max(1.0, counts.quantile(0.99) - counts.quantile(0.01))
        self._on = shown > (STOP if self._on else START)
        if self._on and not self._noted:
            self._noted = True
            self._note(f"{self._band.value}: noise of {shown:.1f} grey levels is reduced before fusion")


class Denoising:
    """A transform of pairs around ``registration``: it gets the quiet images.

    The pair keeps its own infrared frame, whose counts are recorded and measured; its visible frame is the quiet one.
    """

    def __init__(
        self,
        registration: Callable[[FramePair], FramePair],
        infrared: NoiseReduction | None,
        visible: NoiseReduction | None,
    ) -> None:
        self._registration, self._infrared, self._visible = registration, infrared, visible

    def __call__(self, pair: FramePair) -> FramePair:
        infrared, visible = pair.infrared, pair.visible
        if self._visible is not None and visible is not None:
            visible = self._visible(visible)
        quiet = infrared
        if self._infrared is not None and infrared is not None:
            quiet = self._infrared(infrared)
        registered = self._registration(replace(pair, infrared=quiet, visible=visible))
        return replace(registered, infrared=infrared)
