"""Matched points of a check: a block's infrared pixel, the visible pixel where it belongs, and the residual."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.file.storage import save_text
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.scene.block_matching import size_of
from fusepipe.core.errors import UsageError
from fusepipe.workflows.calibrate_check.check import CheckResult

SUFFIXES = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class MatchedPoint:
    """An infrared and a visible pixel that show the same; the residual is what the calibration is off by.

    All in pixels, the residual in visible ones. Where a block has edges of one direction only, the residual is that
    perpendicular to them.
    """

    pair: str
    infrared_x: float
    infrared_y: float
    visible_x: float
    visible_y: float
    residual_x: float
    residual_y: float
    residual_px: float


def check_suffix(path: Path) -> None:
    """Raises :class:`UsageError` for a file that is neither .csv nor .json."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: matched points are written as {' or '.join(SUFFIXES)}")


def matched_points(result: CheckResult) -> list[MatchedPoint]:
    """One for each block with a clear match, pair by pair."""
    found = []
    for one in result.pairs:
        blocks = one.residuals.blocks
        if not blocks:
            continue
        positions = np.array([block.position for block in blocks])
        offsets = np.array([block.offset for block in blocks])
        sizes = size_of(one.pair.infrared), size_of(one.pair.visible)
        ideal = cv2.perspectiveTransform(positions[None], np.linalg.inv(result.matrix))[0]
        lenses = _lenses(result)
        infrared, visible = (
            points if lens is None else _distorted(lens.at(size), points)
            for lens, size, points in zip(lenses, sizes, (ideal, positions + offsets), strict=True)
        )
        for (x, y), (u, v), (dx, dy) in zip(infrared, visible, offsets, strict=True):
            numbers = (round(float(n), 3) for n in (x, y, u, v, dx, dy, np.hypot(dx, dy)))
            found.append(MatchedPoint(one.pair.name, *numbers))
    return found


def write_points(result: CheckResult, path: Path) -> int:
    """Writes them as CSV or JSON, by the suffix; returns their number. Raises :class:`SinkError`."""
    check_suffix(path)
    points = [asdict(point) for point in matched_points(result)]
    if path.suffix.lower() == ".json":
        text = json.dumps(points, indent=1) + "\n"
    else:
        sheet = io.StringIO()
        writer = csv.DictWriter(sheet, list(MatchedPoint.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)
        text = sheet.getvalue()
    save_text(text, path, overwrite=True)
    return len(points)


def _lenses(result: CheckResult) -> tuple[Lens | None, Lens | None]:
    """Of the infrared and the visible camera, where the calibration has them."""
    if result.calibration.kind == "stereo":
        infrared, visible = result.calibration.lenses()
        return infrared, visible
    return result.calibration.infrared_lens(), None


def _distorted(lens: Lens, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return lens.project((points - (lens.cx, lens.cy)) / (lens.fx, lens.fy))
