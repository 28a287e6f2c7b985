"""Tone mapping stage: registered infrared counts to 8-bit full-range luma, by a fixed range or gain control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np

from fusepipe.core.counts import RIG_KEYS, CountLevels, CountSettings, bulk_of, counts_warning, measure_levels
from fusepipe.core.frames import Frame, FramePair, Plane
from fusepipe.core.levels import default_range, full_range_luma
from fusepipe.core.radiometry import ZERO_CELSIUS_K
from fusepipe.pipeline.stages.gain_control import GainControl, GainSettings

Polarity = Literal["white-hot", "black-hot"]

ENOUGH_SHARE = 0.5  # of the full range: such an image of more than 8 bits is shown as it is
FILLED_SHARE = 0.8  # the same of an 8-bit image: gain control then shows it as that of a 16-bit camera, nearly
SLIVER_SHARE = 0.1  # of the full range: nine tenths of such an image are in a sliver, whatever is in the rest


@dataclass(frozen=True, slots=True)
class ToneMapping:
    """``count_range``: the counts of black and white, by default the full range of the bit depth.

    ``gain``: gain control in place of it, or ``None``. ``automatic``: only where the first image with contrast uses
    under half of the range; of 8-bit images only with ``eight_bit``, and where it uses under four fifths. ``celsius``:
    the temperatures of black and white, of frames with a radiometry; others have the range. ``polarity`` black-hot
    inverts the luma.
    """

    count_range: tuple[int, int] | None = None
    gain: GainSettings | None = None
    automatic: bool = False
    eight_bit: bool = False
    celsius: tuple[float, float] | None = None
    polarity: Polarity = "white-hot"


class ToneMap:
    """Identity for 8-bit full-range planes. The raw counts stay on the pair as ``registered``.

    A first frame with contrast that uses little of a fixed range, whose bytes seem swapped or whose counts wrap around
    is reported once through ``warn``, which names ``settings``; without ``settings`` it is not checked. ``note`` gets
    what ``automatic`` has decided, once a run. ``checked`` is whether such a frame has come; ``counts_warning`` is what
    was reported of it, or empty.
    """

    def __init__(
        self,
        mapping: ToneMapping | None,
        warn: Callable[[str], None],
        settings: CountSettings | None = RIG_KEYS,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._mapping = mapping = mapping or ToneMapping()
        self._warn, self._note, self._settings = warn, note, settings
        self.checked = settings is None
        self.counts_warning = ""
        self._control = None if mapping.gain is None else GainControl(mapping.gain)
        self._decided = self._control is None or not mapping.automatic
        self.description = "" if mapping.gain is None or mapping.automatic else f"gain control: {mapping.gain.mode}"

    def __call__(self, pair: FramePair) -> FramePair:
        plane = pair.registered
        if plane is None or pair.infrared is None:
            return pair
        control = self.follow(pair.infrared)
        view = None if pair.engine_warps or pair.warp is None else pair.warp.valid
        count_range = self._range_of(pair.infrared)
        luma = full_range_luma(plane, count_range) if control is None else control.apply(plane, view)
        if self._mapping.polarity == "black-hot":
            luma = np.asarray(cv2.bitwise_not(luma), np.uint8)
            if view is not None:
                luma = np.asarray(cv2.bitwise_and(luma, view), np.uint8)
        return replace(pair, luma=Plane(luma))

    def follow(self, frame: Frame) -> GainControl | None:
        """Takes the infrared frame of a pair as a call does, without its luma: for what the next pairs depend on.

        Returns the gain control that its luma is made with, if any.
        """
        counts = frame.luma  # unwarped: the registered plane is zero outside the field of view
        control = self._control_of(counts)
        if counts.pixels.dtype == np.uint16 and not self.checked:
            self._check(frame, gain=control is not None)
        if control is not None:
            control.update(frame)
        return control

    def needs(self, frame: Frame) -> bool:
        """Whether :meth:`follow` would look at the image of this frame, of the same bit depth as the last one."""
        if not self.checked or not self._decided:
            return True
        return self._control is not None and self._control.needs(frame)

    def pass_over(self, frame: Frame) -> None:
        """Takes a frame that :meth:`needs` no image of, as :meth:`follow` does."""
        if self._control is not None:
            self._control.pass_over(frame)

    def saved(self) -> dict[str, Any]:
        """What the luma and the warnings of the next pairs depend on; :meth:`restore` takes it."""
        own = {"checked": self.checked, "decided": self._decided, "description": self.description}
        return {**own, **({} if self._control is None else self._control.saved())}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continues as the tone mapping that :meth:`saved` this."""
        self.checked, self._decided, self.description = saved["checked"], saved["decided"], saved["description"]
        if "curve" not in saved:
            self._control = None
        elif self._control is not None:
            self._control.restore(saved)

    def _range_of(self, frame: Frame) -> tuple[int, int] | None:
        """The counts of black and white of a frame that has no gain control."""
        celsius, radiometry = self._mapping.celsius, frame.radiometry
        if celsius is None or radiometry is None or not radiometry.thermal:
            return self._mapping.count_range
        low, high = np.rint(radiometry.counts(np.array(celsius) + ZERO_CELSIUS_K))
        return int(low), max(int(high), int(low) + 1)

    def _control_of(self, counts: Plane) -> GainControl | None:
        """The gain control of images like this one; decides about it where that is automatic."""
        control, eight_bit = self._control, counts.pixels.dtype == np.uint8
        if control is None or (eight_bit and self._mapping.automatic and not self._mapping.eight_bit):
            return None
        if not self._decided:
            levels = measure_levels(counts.pixels)
            if not levels.flat:
                self._decide(counts, levels)
        return self._control

    def _decide(self, counts: Plane, levels: CountLevels) -> None:
        low, high = default_range(counts)
        used = levels.low, levels.high
        bulk = bulk_of(counts.pixels)
        if counts.pixels.dtype == np.uint16 and bulk[1] - bulk[0] < SLIVER_SHARE * (high - low):
            used = bulk  # a hot object of some percent of the image must not decide for all the rest
        share = (used[1] - used[0]) / (high - low)
        text = f"infrared: {counts.bit_depth}-bit values {used[0]}..{used[1]} use {share:.1%} of {low}..{high}"
        assert self._mapping.gain is not None
        if share >= (ENOUGH_SHARE if counts.pixels.dtype == np.uint16 else FILLED_SHARE):
            self._control = None
            self.description = f"gain control: off, {share:.0%} of the range is used"
            self._note(f"{text}; shown without gain control")
        else:
            self.description = f"gain control: {self._mapping.gain.mode}, {share:.1%} of the range is used"
            self._note(f"{text}; gain control is on ({self._mapping.gain.mode})")
        self._decided = True

    def _check(self, frame: Frame, *, gain: bool) -> None:
        counts = frame.luma
        count_range = self._range_of(frame) or default_range(counts)
        levels = measure_levels(counts.pixels)
        self.checked = not levels.flat  # a closed shutter: the next frame is checked
        if gain and not levels.swapped and not levels.wraps_at:
            return
        warning = counts_warning("infrared", levels, count_range, self._settings or RIG_KEYS)
        if warning:
            self.counts_warning = warning
            self._warn(warning)
