"""What the counts of a 16-bit image say about it: the range they use, swapped bytes, and counts that wrap around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Pixels

ByteOrder = Literal["little", "big"]

MAX_COUNT = 65535
PERCENTILES = (1.0, 99.0)  # dead pixels are outside
BULK_PERCENTILES = (5.0, 95.0)
USED_SHARE_MIN = 0.25  # below this share of the range an image is grey fog: 14-bit counts in 16 bits
SWAPPED_RATIO = 4.0  # how much more the high byte varies than the low one if they are swapped
LOW_BYTES_MAX = 64  # different low bytes that swapped counts have: 64 are a quarter of the 16-bit range
STEP = 4  # every fourth row (of a flat array: count) is sampled
ROUGH = 0.03  # the share of its range by which an image's neighbours differ: a third in noise, a hundredth in images
SMOOTHER = 4.0  # how much smoother the image is in the other byte order if its bytes are swapped
FOLDS = (1 << 14, 1 << 16)  # where counters of thermal cameras overflow
FOLD_PAIRS_MIN = 16  # neighbours across the fold, and one in 20,000
FOLD_PIXELS = 20_000


@dataclass(frozen=True, slots=True)
class CountLevels:
    """``low`` and ``high``: the 1st and 99th percentile of the counts. ``swapped``: their bytes seem exchanged.

    ``wraps_at``: the number at which they seem to start from 0 again, or 0.
    """

    low: int
    high: int
    swapped: bool
    wraps_at: int = 0

    @property
    def flat(self) -> bool:
        """Whether the image has no contrast, as while a shutter is closed; it says nothing about the range then."""
        return self.low == self.high


def swapped_bytes(counts: Pixels) -> NDArray[np.uint16]:
    """A copy of 16-bit counts with the two bytes of each exchanged."""
    swapped: NDArray[np.uint16] = np.asarray(counts, np.uint16).byteswap()
    return swapped


def measure_levels(pixels: Pixels) -> CountLevels:
    """Of one image, HxW or HxWx3 uint16.

    Counts of exactly 0 and 65535 are left out where there are others: dead rows and columns, and empty borders.
    """
    sample = _alive(pixels)
    low, high = (int(value) for value in np.percentile(sample, PERCENTILES))
    if low == high:
        return CountLevels(low, high, has_swapped_bytes(sample))
    swapped = has_swapped_bytes(sample) or _smoother_swapped(pixels)
    return CountLevels(low, high, swapped, 0 if swapped else fold_of(pixels))


def bulk_of(pixels: Pixels) -> tuple[int, int]:
    """The counts that nine tenths of an image lie between, with the same left out: without a hot object."""
    low, high = np.percentile(_alive(pixels), BULK_PERCENTILES)
    return int(low), int(high)


def _alive(pixels: Pixels) -> Pixels:
    """The counts that are neither 0 nor 65535, where there are any."""
    sample = pixels[(pixels != 0) & (pixels != MAX_COUNT)]
    return sample if sample.size else pixels


def _smoother_swapped(pixels: Pixels) -> bool:
    """Whether an image, HxW or HxWx3 uint16, looks like noise, and is smooth in the other byte order.

    That recognises counts of any range; those within one high byte are as smooth in both orders.
    """
    rows = np.asarray(pixels[::STEP], np.uint16)
    rough = _roughness(rows)
    return rough > ROUGH and _roughness(swapped_bytes(rows)) * SMOOTHER < rough


def _roughness(pixels: NDArray[np.uint16]) -> float:
    """By which share of the range that an image uses the neighbours in a row differ (median)."""
    alive = (pixels != 0) & (pixels != MAX_COUNT)
    neighbours = alive[:, 1:] & alive[:, :-1]
    if not neighbours.any():
        return 0.0
    low, high = np.percentile(pixels[alive], PERCENTILES)
    steps = np.abs(np.diff(pixels.astype(np.int32), axis=1))[neighbours]
    return float(np.median(steps)) / max(float(high - low), 1.0)


def fold_of(pixels: Pixels) -> int:
    """The number at which the counts of an image, HxW or HxWx3 uint16, start from 0 again; 0 where they do not.

    Across a fold a count just below it lies beside one just above 0, and the steps are small if counted round the
    fold. At the border of a hot object, which is blurred, there are counts in between. Clipped counts (0, and the
    highest one) are left out.
    """
    wide = np.count_nonzero((pixels >= FOLDS[0]) & (pixels != MAX_COUNT)) > pixels.size // 1000
    fold = FOLDS[1] if wide else FOLDS[0]
    inside = (pixels > 0) & (pixels < fold - 1)
    steps = np.abs(np.diff(pixels.astype(np.int32), axis=1))[inside[:, 1:] & inside[:, :-1]]
    across = fold - steps[steps > fold - fold // 8]  # counted round the fold
    between = int((steps > fold // 4).sum()) - len(across)
    if len(across) < max(FOLD_PAIRS_MIN, pixels.size / FOLD_PIXELS, 4 * between):
        return 0
    return fold if np.percentile(across, 10) <= fold // 32 else 0


def has_swapped_bytes(pixels: Pixels) -> bool:
    """Whether the high byte varies like noise and the low byte like an image.

    8-bit images in the high byte, whose low byte is 0 or a copy of the high one, are not swapped.
    """
    sample = np.asarray(pixels[::STEP], np.uint16)
    low_byte, high_byte = sample & 0xFF, sample >> 8
    if not np.median(low_byte) or len(np.unique(low_byte)) > LOW_BYTES_MAX:
        return False
    spreads = [float(np.subtract(*np.percentile(byte, PERCENTILES[::-1]))) for byte in (low_byte, high_byte)]
    return spreads[1] > SWAPPED_RATIO * max(spreads[0], 1.0)


@dataclass(frozen=True, slots=True)
class CountSettings:
    """The names that messages give to the settings of one camera: keys of a rig, or options of a command.

    ``read_order``: the order in which the bytes of the samples were read; ``None`` where no setting changes it.
    """

    range: str = "range: [{low}, {high}]"
    byte_order: str = "byte_order: {order}"
    read_order: ByteOrder | None = "big"


RIG_KEYS = CountSettings()


def counts_warning(what: str, levels: CountLevels, count_range: tuple[int, int], settings: CountSettings) -> str | None:
    """One line where an image would come out as contours, grey fog or nearly black, with the setting that helps.

    That is where the bytes of the counts seem swapped, where they wrap around, or where they use less than a quarter of
    ``count_range``. ``None`` where none is so, and for flat images.
    """
    if levels.swapped:
        text = f"{what}: the bytes of the 16-bit counts seem to be swapped"
        if settings.read_order is None:
            return text
        order: ByteOrder = "little" if settings.read_order == "big" else "big"
        return f"{text}; set {settings.byte_order.format(order=order)}"
    if levels.flat:
        return None
    if levels.wraps_at:
        return (
            f"{what}: the counts seem to wrap around at {levels.wraps_at}, so that the hottest parts look coldest; set "
            "the camera to low gain (a wider temperature range)"
        )
    low, high = levels.low, levels.high
    used = (min(high, count_range[1]) - max(low, count_range[0])) / (count_range[1] - count_range[0])
    if used >= USED_SHARE_MIN:
        return None
    margin = max(1, (high - low) // 4)
    setting = settings.range.format(low=max(0, low - margin), high=min(MAX_COUNT, high + margin))
    return (
        f"{what}: counts {low}..{high} use {max(0.0, used):.1%} of the range {count_range[0]}..{count_range[1]}; "
        f"set {setting}"
    )
