"""The current alignment of a running rig: calibration, plane distance and drift correction.

A change is a new builder of warps; the registration stage switches to it between two frames. Safe to use
from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.frames import Size

Build = Callable[[Size, Size, float | None, Matrix3 | None], RemapWarp | None]
"""(infrared size, visible size, plane distance in metres, correction in visible pixels) to a warp."""


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """``correction`` 3x3 moves visible pixels of an image of ``correction_size``."""

    build: Build
    plane_distance_m: float | None = None
    correction: Matrix3 | None = None
    correction_size: Size = (1, 1)

    def __call__(self, infrared_size: Size, visible_size: Size) -> RemapWarp | None:
        """The warp for images of these sizes; raises :class:`UsageError` where there can be none."""
        adjust = self.correction
        if adjust is not None and visible_size != self.correction_size:
            there, back = scaling(self.correction_size, visible_size), scaling(visible_size, self.correction_size)
            adjust = there @ adjust @ back
        return self.build(infrared_size, visible_size, self.plane_distance_m, adjust)


class Aligner:
    """Holds the :class:`Alignment` and notifies ``changed`` of each new one."""

    def __init__(self, build: Build, plane_distance_m: float | None = None) -> None:
        self._lock = threading.Lock()
        self._alignment = Alignment(build, plane_distance_m)
        self._changed: Callable[[Alignment], None] | None = None

    @property
    def alignment(self) -> Alignment:
        return self._alignment

    def on_change(self, changed: Callable[[Alignment], None]) -> None:
        """``changed`` is called, in the thread that makes the change, with every new alignment."""
        self._changed = changed

    def set_plane_distance(self, distance_m: float | None, infrared_size: Size, visible_size: Size) -> None:
        """Aligns at another distance from now on; ``None`` is the calibration's own.

        Sizes (width, height) are those of the running images: the warp is built for them first, so that
        an unsupported distance raises :class:`UsageError` here and changes nothing.
        """
        with self._lock:
            new = replace(self._alignment, plane_distance_m=distance_m)
            new(infrared_size, visible_size)
            self._set(new)

    def correct(self, correction: Matrix3 | None, visible_size: Size) -> None:
        """Moves the registered image by a 3x3 matrix of visible pixels, replacing an earlier correction."""
        if correction is not None:
            correction = np.array(correction, np.float64)
            correction.flags.writeable = False
        with self._lock:
            self._set(replace(self._alignment, correction=correction, correction_size=visible_size))

    def _set(self, alignment: Alignment) -> None:
        self._alignment = alignment
        if self._changed is not None:
            self._changed(alignment)
