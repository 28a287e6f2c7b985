"""Residuals of a calibration on image pairs: of blocks, by region and by distance, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.file.model import Calibration
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.ambiguity import EQUAL, SecondPlace, second_place
from fusepipe.calibration.scene.block_matching import VisibleFields, each_matches
from fusepipe.calibration.scene.lens_estimation import LensEvidence, lens_evidence
from fusepipe.calibration.scene.local_matches import Matches, fit, pooled
from fusepipe.calibration.scene.match_quality import LEVEL, MIN_CONFIDENCE, MatchQuality, match_quality
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.core.frames import Size

GRID = 3
CLEAR = 0.12  # minimum height of a block's correlation peak above its mean
NEARLY = 0.04  # difference of correlation that counts as equal to the peak
LOOSE_PX = 3.0  # spread of the peak along a direction beyond which the residual in that direction is unknown
GOOD, FAIR = 0.004, 0.010  # median residual in widths: 2.6 and 6.4 pixels of 640
GOOD_CONFIDENCE = 0.5
LENS_ADVICE = "calibrate from two pairs or more with edges out to the corners, or from a board."


@dataclass(frozen=True, slots=True)
class Residual:
    """A block at ``position`` (x, y) that matches best when moved by ``offset`` (x, y); visible pixels.

    Where a block has edges of one direction only, ``offset`` is perpendicular to them (aperture problem).
    """

    position: tuple[float, float]
    offset: tuple[float, float]

    @property
    def length_px(self) -> float:
        return float(np.hypot(*self.offset))


@dataclass(frozen=True, slots=True)
class Residuals:
    """``regions_px`` is the median residual of each of 3x3 regions of the image, row by row; NaN: too few blocks."""

    quality: MatchQuality
    blocks: tuple[Residual, ...]
    median_px: float
    shift_px: tuple[float, float]
    regions_px: NDArray[np.float64]
    visible_size: Size
    second: SecondPlace | None = None
    bends: LensEvidence | None = None

    @property
    def verdict(self) -> tuple[str, str]:
        """(``good``, ``fair``, ``bad`` or ``unknown``; its meaning and what to do)."""
        seen, width = self.quality, self.visible_size[0]
        if not seen.accepted and self._too_little():
            return "unknown", (
                "These images have too little structure in common to tell. Check with pairs that show edges of "
                "buildings, vehicles or people."
            )
        part = self.median_px / width
        where = self._worst_region()
        if self.second is not None and self.second.part >= EQUAL:
            return "unknown", (
                f"These images cannot tell, because {self.second.text}. Check with pairs that show more than a "
                "repeating pattern."
            )
        lens = f"{self.bends.text}: {LENS_ADVICE}" if self.bends is not None and self.bends.text else ""
        half = f"half of the blocks are off by less than {self.median_px:.1f} px."
        bound = f" Expected error: {seen.error_bound.text}." if seen.error_bound else ""
        but = f" But {lens}" if lens else ""
        if part <= GOOD and seen.pooled >= GOOD_CONFIDENCE and seen.reliable:
            return "good", f"The images are aligned: {half}{bound}{where}{but}"
        if part <= FAIR and seen.pooled >= MIN_CONFIDENCE and seen.reliable:
            cause = but or " Objects at other distances, or a small movement of the bracket, cause this."
            return "fair", f"The images are nearly aligned: {half}{bound}{cause}{where}"
        if lens:
            return "bad", f"The images are not aligned at the edge: {half} Not the bracket: {lens}{where}"
        return "bad", (
            f"The images are not aligned: only {seen.near:.0%} of the blocks agree with the calibration, and half "
            f"are off by more than {self.median_px:.1f} px. The bracket may have moved, or the calibration belongs to "
            f"another rig. Calibrate again.{where}"
        )

    def _too_little(self) -> bool:
        return len(self.blocks) < 8

    def _worst_region(self) -> str:
        known = self.regions_px[np.isfinite(self.regions_px)]
        if len(known) < 4:
            return ""
        row, column = np.unravel_index(int(np.nanargmax(self.regions_px)), self.regions_px.shape)
        worst = float(self.regions_px[row, column])
        if worst < 2 * float(np.median(known)) or worst < 0.004 * self.visible_size[0]:
            return ""
        names = (("upper", "middle", "lower")[row], ("left", "centre", "right")[column])
        return f" The {names[0]} {names[1]} part is worst with {worst:.1f} px."


def measure_residuals(pairs: Sequence[ScenePair], matrix: Matrix3, lens: Lens | None = None) -> Residuals:
    """Measures a map on pairs of one size: 3x3, infrared to visible pixel, without the distortion of a ``lens``."""
    height, width = pairs[0].visible.shape
    each = each_matches(pairs, matrix, LEVEL, lens=lens)
    matches = pooled(each)
    scale = width / matches.size[0]
    clear = [_clear(one) for one in each]
    positions = np.concatenate([one.centres[kept] for one, (kept, _) in zip(each, clear, strict=True)])
    off = np.concatenate([moved for _, moved in clear])
    residuals = tuple(
        Residual((float(x * scale), float(y * scale)), (float(dx * scale), float(dy * scale)))
        for (x, y), (dx, dy) in zip(positions, off, strict=True)
    )
    lengths = np.array([r.length_px for r in residuals])
    regions = np.full((GRID, GRID), np.nan)
    if len(residuals):
        row = np.clip((positions[:, 1] / matches.size[1] * GRID).astype(int), 0, GRID - 1)
        column = np.clip((positions[:, 0] / matches.size[0] * GRID).astype(int), 0, GRID - 1)
        for r in range(GRID):
            for c in range(GRID):
                inside = (row == r) & (column == c)
                if inside.sum() >= 2:
                    regions[r, c] = float(np.median(lengths[inside]))
    shift = (0.0, 0.0)
    if len(matches.centres) >= 4:
        found = fit(matches, "shift").displacement[0] * scale
        shift = (round(float(found[0]), 2), round(float(found[1]), 2))
    median = float(np.median(lengths)) if len(lengths) else float("nan")
    fields = VisibleFields(pairs)
    quality = match_quality(pairs, matrix, fields, lens)
    second = second_place(pairs, matrix, quality.evidence, fields, lens=lens) if quality.reliable else None
    bends = lens_evidence(pairs, matrix, fields, lens) if quality.reliable else None
    return Residuals(quality, residuals, median, shift, regions, (width, height), second, bends)


def _clear(matches: Matches) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which blocks have one clear correlation peak, and its offset from the map, to subpixel accuracy."""
    flat = matches.surfaces.reshape(len(matches.surfaces), -1)
    kept = flat.max(axis=1, initial=-1.0) - flat.mean(axis=1) > CLEAR if len(flat) else np.zeros(0, np.bool_)
    # a peak at the rim of the search range is not reliable
    kept &= np.abs(matches.peaks()).max(axis=1, initial=0.0) < matches.radius_px
    peaks = matches.peaks()[kept]
    surfaces = matches.surfaces[kept]
    r = matches.radius_px
    off = peaks.copy()
    for n, (dx, dy) in enumerate(peaks.astype(int)):
        for axis, (before, after) in enumerate((((0, -1), (0, 1)), ((-1, 0), (1, 0)))):
            y, x = dy + r, dx + r
            if 0 < (x, y)[axis] < 2 * r:
                low, high = surfaces[n, y + before[0], x + before[1]], surfaces[n, y + after[0], x + after[1]]
                bend = 2 * surfaces[n, y, x] - low - high
                if bend > 1e-6:
                    off[n, axis] += float(np.clip((high - low) / (2 * bend), -0.5, 0.5))
    return kept, _perpendicular(surfaces, peaks, off)


def _perpendicular(
    surfaces: NDArray[np.float32], peaks: NDArray[np.float64], off: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``off`` (Nx2) without the component along a direction in which a block matches equally well anywhere."""
    known = off.copy()
    r = surfaces.shape[1] // 2
    y, x = np.mgrid[-r : r + 1, -r : r + 1].astype(np.float64)
    for n, surface in enumerate(surfaces):
        weight = np.exp((surface.astype(np.float64) - float(surface.max())) / NEARLY)
        weight /= weight.sum()
        dx, dy = x - peaks[n, 0], y - peaks[n, 1]
        xx, yy, xy = ((weight * product).sum() for product in (dx * dx, dy * dy, dx * dy))
        (narrow, wide), directions = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
        if wide > LOOSE_PX**2 and narrow < LOOSE_PX**2 / 4:
            across = directions[:, 0]
            known[n] = across * float(across @ off[n])
    return known


def by_distance(calibration: Calibration, distances_m: Sequence[float]) -> list[tuple[float, float]] | None:
    """(distance in metres, misalignment in visible pixels) of objects while aligned at the calibration's own distance.

    Mean over a grid of the image. ``None`` where the calibration has no pose of the cameras.
    """
    if not calibration.has_depth:
        return None
    width, height = calibration.infrared.size
    x, y = np.meshgrid(np.linspace(0, width - 1, 7), np.linspace(0, height - 1, 7))
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])

    def projected(distance_m: float | None) -> NDArray[np.float64]:
        moved = calibration.matrix3(distance_m) @ points
        return np.asarray(moved[:2] / moved[2], np.float64)

    reference = projected(None)
    return [(d, float(np.hypot(*(projected(d) - reference)).mean())) for d in distances_m]
