"""Measures a calibration file on pairs of images: figures, a verdict, and a page that shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusepipe.calibration.file.model import Calibration
from fusepipe.calibration.file.named_planes import at_plane, plane_names
from fusepipe.calibration.file.storage import load_calibration, save_text
from fusepipe.calibration.matrix import Matrix3, rescale_matrix
from fusepipe.calibration.scene.block_matching import size_of
from fusepipe.calibration.scene.match_quality import MatchQuality, match_quality
from fusepipe.calibration.scene.residuals import Residuals, measure_residuals
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.rig.from_options import CameraKeys
from fusepipe.workflows.calibrate_check.page import MeasuredPair, check_page
from fusepipe.workflows.scene_pairs import read_pairs


@dataclass(frozen=True)
class CheckResult:
    """The residuals of all pairs together, and of each.

    ``matrix`` is 3x3, infrared to visible pixel of the pairs' sizes, without the distortion of lenses.
    """

    path: Path
    matrix: Matrix3
    calibration: Calibration
    overall: Residuals
    pairs: list[MeasuredPair]
    planes: Mapping[str, MatchQuality] = field(default_factory=dict)
    """Of each plane of the file, by name; empty where it has no names."""

    @property
    def plane_lines(self) -> list[str]:
        """A line for each plane of the file."""
        return [
            f"plane {name}: {seen.agreeing} of {seen.blocks} blocks agree, in {seen.parts} of 9 parts of the image"
            for name, seen in self.planes.items()
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "calibration": str(self.path),
            **_figures(self.overall),
            "planes": {
                name: {"agreeing": seen.agreeing, "blocks": seen.blocks, "parts": seen.parts, "near": seen.near}
                for name, seen in self.planes.items()
            },
            "pairs": {one.pair.name: _figures(one.residuals) for one in self.pairs},
        }


def check_calibration(
    path: Path,
    infrared: str,
    visible: str,
    most: int = 12,
    plane_distance_m: float | None = None,
    keys: CameraKeys | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
    plane: str | None = None,
) -> CheckResult:
    """``keys``: the cameras' ``crop`` and such; ``plane``: one of the file, by name.

    Raises what reading the calibration or the pairs raises.

    ``step`` is called with the number of measurements done, and of all: each pair, and all together.
    """
    whole = load_calibration(path)
    calibration = at_plane(whole, plane)
    if plane_distance_m is not None:
        calibration.matrix3(plane_distance_m)  # raises where it does not support the distance
        if calibration.kind == "stereo":
            calibration = calibration.model_copy(update={"plane_distance_m": plane_distance_m})
    pairs = read_pairs(infrared, visible, most, keys)
    matrix = calibration.matrix3(plane_distance_m)
    read = [_ideal(calibration, pair) for pair in pairs]
    sizes = whole.infrared.size, whole.visible.size, size_of(pairs[0].infrared), size_of(pairs[0].visible)
    matrix = rescale_matrix(matrix, *sizes)
    lens = calibration.infrared_lens()
    lens = None if lens is None else lens.at(sizes[2])
    listed = []
    for pair, ideal in zip(pairs, read, strict=True):
        listed.append(MeasuredPair(pair, measure_residuals([ideal], matrix, lens)))
        step(len(listed), 2 * len(pairs))  # all together take as long as one by one
    planes = {
        name: match_quality(read, rescale_matrix(at_plane(whole, name).matrix3(), *sizes), lens=lens)
        for name in plane_names(whole)
    }
    return CheckResult(path, matrix, calibration, measure_residuals(read, matrix, lens), listed, planes)


def _ideal(calibration: Calibration, pair: ScenePair) -> ScenePair:
    """The pair undistorted, as the matrix expects it."""
    if calibration.kind != "stereo":
        return pair
    import cv2

    undistorted = []
    for lens, image in zip(calibration.lenses(), (pair.infrared, pair.visible), strict=True):
        here = lens.at((image.shape[1], image.shape[0]))
        y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float64)
        rays = np.stack([(x.ravel() - here.cx) / here.fx, (y.ravel() - here.cy) / here.fy], axis=1)
        grid = here.project(rays).astype(np.float32).reshape(*image.shape, 2)
        undistorted.append(
            np.asarray(
                cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
                np.uint8,
            )
        )
    return ScenePair(undistorted[0], undistorted[1], pair.name)


def write_report(result: CheckResult, path: Path) -> None:
    """One HTML page; raises :class:`SinkError` where it cannot be written."""
    calibration = result.calibration
    made = calibration.made
    facts = [
        calibration.kind,
        f"infrared {calibration.infrared.size[0]}x{calibration.infrared.size[1]}",
        f"visible {calibration.visible.size[0]}x{calibration.visible.size[1]}",
        f"{len(result.pairs)} {'pair' if len(result.pairs) == 1 else 'pairs'}",
    ]
    if made is not None:
        facts += [str(v) for v in (made.by, made.date, made.note) if v]
    facts += result.plane_lines
    save_text(check_page(result.path.name, calibration, result.overall, result.pairs, facts), path, overwrite=True)


def _figures(one: Residuals) -> dict[str, Any]:
    word, text = one.verdict
    return {
        "verdict": word,
        "text": text,
        "median_px": None if math.isnan(one.median_px) else round(one.median_px, 3),
        "shift_px": list(one.shift_px),
        "regions_px": [[None if math.isnan(v) else round(float(v), 2) for v in row] for row in one.regions_px],
        **asdict(one.quality),
    }
