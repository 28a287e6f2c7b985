"""Tone mapping stage: registered infrared counts to 8-bit full-range luma, with a fixed range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fusepipe.core.counts import RIG_KEYS, CountSettings, counts_warning, measure_levels
from fusepipe.core.frames import FramePair, Plane
from fusepipe.core.levels import default_range, full_range_luma


class ToneMap:
    """Identity for 8-bit full-range planes. The raw counts stay on the pair as ``registered``.

    ``count_range`` is the rig's ``range``, by default the full range of the bit depth; a first frame with contrast
    that uses little of it, or whose bytes seem swapped, is reported once through ``warn``, which names ``settings``;
    without ``settings`` it is not checked.
    """

    def __init__(
        self,
        count_range: tuple[int, int] | None,
        warn: Callable[[str], None],
        settings: CountSettings | None = RIG_KEYS,
    ) -> None:
        self._count_range = count_range
        self._warn, self._settings = warn, settings
        self._checked = settings is None

    def __call__(self, pair: FramePair) -> FramePair:
        plane = pair.registered
        if plane is None or pair.infrared is None:
            return pair
        if plane.pixels.dtype == np.uint16 and not self._checked:
            # the unwarped counts: the registered plane is zero outside the field of view
            count_range = self._count_range or default_range(plane)
            levels = measure_levels(pair.infrared.luma.pixels)
            self._checked = not levels.flat  # a closed shutter: the next frame is checked
            warning = counts_warning("infrared", levels, count_range, self._settings or RIG_KEYS)
            if warning:
                self._warn(warning)
        return replace(pair, luma=Plane(full_range_luma(plane, self._count_range)))
