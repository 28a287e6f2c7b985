"""Hot areas and isotherms: which pixels they are, and how they are marked without erasing what is under them.

Everything is decided on the registered counts (8-bit infrared: on its levels), so a tone curve does not move a limit.
"""

from __future__ import annotations

import math
import threading
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.colour import bgr_to_ycc
from fusepipe.core.frames import FramePair, FusedFrame, Warp, enlarged
from fusepipe.core.planes import Luma8, Pixels
from fusepipe.core.radiometry import Radiometry
from fusepipe.core.view_settings import HotSettings, Palette
from fusepipe.pipeline.views.panels import Panel, PlaneFormat, resized

SAMPLED = 4  # every fourth row and column decides a percentile
SETTLE_NS = 1_000_000_000  # time constant of a percentile's limit: hot areas do not flicker with the noise
LINE = 1 / 480  # thickness of outlines, as a share of the height
HALF_SEEN = 128  # of 255: a chroma sample belongs to an area that has half of its pixels
COLD_PALETTES = ("inferno", "magma", "ironbow", "rainbow")  # that have no cyan, the others have no orange

_ORANGE, _CYAN = (0, 90, 255), (255, 240, 0)  # B, G, R
# of isotherms, from the lowest on
_LINES = ((255, 160, 60), (200, 255, 60), (60, 255, 120), (40, 230, 255), (40, 130, 255), (60, 40, 255), (200, 80, 255))


def registered_counts(frame: FusedFrame) -> Pixels | None:
    """HxW counts at the frame's size, 8 or 16 bits; ``None`` without an infrared image at this size.

    Where the network takes a smaller image than the camera delivers they come from the camera's: a small hot object
    would otherwise be mixed with its surroundings twice, and read colder than it is.
    """
    pair = frame.pair
    if pair.registered is None:
        luma = pair.registered_luma()
        counts: Pixels | None = None if luma is None else luma.pixels
    elif pair.engine_warps and pair.warp is not None:
        counts = pair.warp.apply(pair.registered.pixels)
    elif pair.visible_levels and _shrunk(pair):
        assert pair.infrared is not None and pair.warp is not None
        x, y = _enlarged_map(pair.warp, pair.visible_levels)
        source = pair.infrared.luma.pixels
        counts = np.asarray(cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    else:
        counts = enlarged(pair.registered.pixels, pair.visible_levels, smooth=True)
    return None if counts is None or counts.shape != (frame.height, frame.width) else counts


def _shrunk(pair: FramePair) -> bool:
    """Whether a registered pixel is larger than one of the infrared camera, and nothing else moved it."""
    return pair.infrared is not None and pair.warp is not None and pair.warp.scale < 1 and not pair.moved_locally


@lru_cache(maxsize=4)  # a rig has one; each holds 8 bytes a visible pixel
def _enlarged_map(warp: Warp, times: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The infrared position x, y of each pixel of a size that is doubled ``times`` times."""
    grid = warp.sampling_grid
    larger = cv2.resize(grid, (grid.shape[1] << times, grid.shape[0] << times), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(larger[..., 0], np.float32), np.ascontiguousarray(larger[..., 1], np.float32)


def frame_radiometry(frame: FusedFrame) -> Radiometry | None:
    """What the counts of a frame's infrared image measure; ``None`` where they have no temperature."""
    infrared = frame.pair.infrared
    radiometry = None if infrared is None else infrared.radiometry
    return radiometry if radiometry is not None and radiometry.thermal else None


class HotLimit:
    """From which count on a pixel is hot. A percentile's limit follows the scene with a time constant of a second."""

    def __init__(self, settings: HotSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()  # viewers of a page render the same view in several threads
        self._limit: float | None = None
        self._at_ns = 0

    def __call__(self, counts: Pixels, outside: Luma8 | None, frame: FusedFrame) -> float | None:
        """``None`` where it is not known: a temperature of counts that have none."""
        settings = self._settings
        if settings.above_k is not None:
            radiometry = frame_radiometry(frame)
            return None if radiometry is None else float(radiometry.counts(settings.above_k))
        sample = counts[::SAMPLED, ::SAMPLED]
        if outside is not None:
            seen = sample[outside[::SAMPLED, ::SAMPLED] == 0]
            sample = seen if seen.size else sample
        return self._settled(float(np.percentile(sample, settings.percentile)), frame.capture_ns)

    def _settled(self, now: float, at_ns: int) -> float:
        with self._lock:
            passed_ns = at_ns - self._at_ns
            if self._limit is None or passed_ns < 0:
                self._limit = now
            else:
                self._limit += (now - self._limit) * (1 - math.exp(-passed_ns / SETTLE_NS))
            self._at_ns = at_ns
            return self._limit


def area_at(counts: Pixels, limit: float, outside: Luma8 | None) -> Luma8:
    """HxW uint8, 255 where the counts are at least ``limit`` and the infrared camera sees."""
    if limit > np.iinfo(counts.dtype).max:
        return np.zeros(counts.shape, np.uint8)
    area = np.asarray(cv2.compare(counts, max(0.0, limit), cv2.CMP_GE), np.uint8)
    return area if outside is None else np.asarray(cv2.bitwise_and(area, cv2.bitwise_not(outside)), np.uint8)


def tinted(panel: Panel, area: Luma8, form: PlaneFormat) -> Panel:
    """The area in the colours of glowing metal of the same luma: luma stays as it is, chroma outside of it too."""
    cb, cr = panel.coloured()
    size = (cb.shape[1], cb.shape[0])
    inside = resized(area, size) >= HALF_SEEN
    tables = _glow(form)
    levels = resized(panel.luma, size)
    return Panel(
        panel.luma,
        (np.where(inside, tables[0][levels], cb), np.where(inside, tables[1][levels], cr)),
    )


@cache
def _glow(form: PlaneFormat) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """256 entries of Cb and Cr each: of the colour between dark red, orange and pale yellow that has this luma."""
    steps = np.linspace(0, 1, 1024)[:, None]
    points = np.array([[0, 0, 60], [0, 0, 220], [0, 130, 255], [40, 235, 255], [150, 255, 255]], float)
    place = steps[:, 0] * (len(points) - 1)
    bgr = np.stack([np.interp(place, range(len(points)), points[:, channel]) for channel in range(3)], axis=1)
    ycc = bgr_to_ycc(bgr.round().astype(np.uint8), form.matrix, form.value_range)
    nearest = np.abs(ycc[None, :, 0].astype(int) - np.arange(256)[:, None]).argmin(axis=1)
    return ycc[nearest, 1], ycc[nearest, 2]


def outlined(panel: Panel, area: Luma8, form: PlaneFormat, palette: Palette) -> Panel:
    """A line around the area, outside of it, so that it hides nothing hot; half of what is under it stays."""
    reach = max(1, round(area.shape[0] * LINE)) * 2 + 1
    around = cv2.dilate(area, np.ones((reach, reach), np.uint8))
    ring = np.asarray(cv2.subtract(around, area), np.uint8)
    return _drawn(panel, ring, _CYAN if palette in COLD_PALETTES else _ORANGE, form, share=0.5)


def with_isotherms(
    panel: Panel, counts: Pixels, limits: list[float], outside: Luma8 | None, form: PlaneFormat
) -> Panel:
    """A line at each limit, on its hot side; counts are smoothed so that noise does not tear the lines."""
    smooth = np.asarray(cv2.GaussianBlur(counts, (5, 5), 0))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for index, limit in enumerate(limits):
        area = area_at(smooth, limit, outside)
        line = np.asarray(cv2.subtract(area, cv2.erode(area, cross)), np.uint8)
        panel = _drawn(panel, line, _LINES[index % len(_LINES)], form, share=1.0)
    return panel


def _drawn(panel: Panel, line: Luma8, bgr: tuple[int, int, int], form: PlaneFormat, *, share: float) -> Panel:
    """A line (255) in a colour: ``share`` of its luma is the colour's."""
    if not line.any():
        return panel
    y, b, r = (int(value) for value in bgr_to_ycc(np.array([bgr], np.uint8), form.matrix, form.value_range)[0])
    luma = panel.luma.copy()
    inked = line == 255
    luma[inked] = np.rint(panel.luma[inked] * (1 - share) + y * share).astype(np.uint8)
    cb, cr = panel.coloured()
    touched = resized(line, (cb.shape[1], cb.shape[0])) >= HALF_SEEN // 3
    return Panel(luma, (np.where(touched, np.uint8(b), cb), np.where(touched, np.uint8(r), cr)))
