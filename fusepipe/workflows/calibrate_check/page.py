"""The page of ``fusepipe calibrate check``: residuals, blink and overlay of each pair. It needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.file.model import Calibration
from fusepipe.calibration.scene.residuals import Residuals, by_distance
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.calibration.warp import build_warp
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.report import html
from fusepipe.evaluation.report.gallery import image_uri

MAX_SHOWN_PAIRS = 8
WORDS = {"good": "Good", "fair": "Fair", "bad": "Not aligned", "unknown": "Inconclusive"}
REGIONS = ("upper", "middle", "lower")
DISTANCE_FACTORS = (0.25, 0.5, 0.75, 1, 1.5, 2, 4, 20)  # of the plane distance, at which the error is predicted


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """A pair, and its own residuals."""

    pair: ScenePair
    residuals: Residuals


@dataclass(frozen=True, slots=True)
class _PairImages:
    """What the page shows of one pair; ``visible``, ``infrared`` and ``images`` (label, URI) are data URIs."""

    name: str
    verdict: tuple[str, str]
    visible: str
    infrared: str
    images: Sequence[tuple[str, str]]


def check_page(
    title: str, calibration: Calibration, overall: Residuals, pairs: Sequence[MeasuredPair], facts: Sequence[str]
) -> str:
    """The whole report as one HTML document; at most ``MAX_SHOWN_PAIRS`` pairs are shown."""
    distance = calibration.plane_distance_m
    found = None if distance is None else by_distance(calibration, [distance * f for f in DISTANCE_FACTORS])
    return html.render(
        "check.html",
        "fusepipe.workflows.calibrate_check",
        title=title,
        facts=facts,
        words=WORDS,
        overall=overall,
        figures=_figures(overall, len(pairs)),
        regions=[
            (name, ["–" if np.isnan(v) else f"{v:.1f} px" for v in row])
            for name, row in zip(REGIONS, overall.regions_px, strict=True)
        ],
        plane_distance="" if distance is None else f"{distance:.3g}",
        distances=[(f"{distance_m:.3g}", f"{error_px:.1f}") for distance_m, error_px in found or ()],
        pairs=[_images(calibration, one) for one in pairs[:MAX_SHOWN_PAIRS]],
        not_shown=max(0, len(pairs) - MAX_SHOWN_PAIRS),
        script="",
    )


def _figures(overall: Residuals, pairs: int) -> list[tuple[str, str]]:
    seen = overall.quality
    individually = [("pairs that agree individually", f"{seen.pairs_near} of {pairs}")] if pairs > 1 else []
    across, down = (round(v, 1) + 0.0 for v in overall.shift_px)  # no "-0.0"
    return [
        *individually,
        ("blocks that agree with the calibration", f"{seen.near:.0%} of {seen.blocks}, in {seen.parts} of 9 parts"),
        ("expected error", "not known" if seen.error_bound is None else seen.error_bound.text),
        ("median residual", f"{overall.median_px:.2f} px of {overall.visible_size[0]}"),
        ("offset of the whole image", f"{across:+.1f} px across, {down:+.1f} px down"),
        ("edge correlation", f"{seen.correlation:.3f}"),
        ("infrared field of view", f"{seen.overlap:.0%} of the visible image"),
    ]


def _images(calibration: Calibration, one: MeasuredPair) -> _PairImages:
    pair = one.pair
    registered, seen = registered_image(calibration, pair)
    # the border of the infrared view is not an edge of the scene
    border = max(3, registered.shape[1] // 100)
    inside = cv2.erode(seen, np.ones((border, border), np.uint8), borderValue=255) // 255
    edges = _red_blue(np.asarray(_edges(registered) * inside, np.uint8), _edges(pair.visible))
    registered = np.asarray(registered * (seen // 255), np.uint8)
    images = (
        ("Edges: infrared red, visible blue, both violet", edges),
        ("Overlay: infrared red, visible blue", _red_blue(registered, pair.visible)),
        ("Residuals, drawn three times as long", _arrows(pair.visible, one.residuals)),
    )
    return _PairImages(
        pair.name,
        one.residuals.verdict,
        image_uri(pair.visible),
        image_uri(registered),
        [(label, image_uri(image)) for label, image in images],
    )


def registered_image(calibration: Calibration, pair: ScenePair) -> tuple[Luma8, Luma8]:
    """The infrared image in the visible geometry, HxW uint8, and where the infrared camera sees, 255 or 0."""
    (ir_h, ir_w), (vis_h, vis_w) = pair.infrared.shape, pair.visible.shape
    warp = build_warp(calibration, (ir_w, ir_h), (vis_w, vis_h))
    whole = np.full((vis_h, vis_w), 255, np.uint8)
    if warp is None:
        return pair.infrared, whole
    return np.asarray(warp.apply(pair.infrared), np.uint8), whole if warp.valid is None else warp.valid


def _edges(luma: Luma8) -> Luma8:
    pixels = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), max(1.0, luma.shape[1] / 500))
    length = np.hypot(cv2.Sobel(pixels, cv2.CV_32F, 1, 0), cv2.Sobel(pixels, cv2.CV_32F, 0, 1))
    around = np.sqrt(cv2.GaussianBlur(length * length, (0, 0), luma.shape[1] / 25) + 9)
    return np.asarray(np.clip(length / around * 90, 0, 255), dtype=np.uint8)


def _red_blue(red: Luma8, blue: Luma8) -> NDArray[np.uint8]:
    """HxWx3 (B, G, R)."""
    return np.dstack([blue, np.minimum(red, blue) // 3, red])


def _arrows(visible: Luma8, found: Residuals) -> NDArray[np.uint8]:
    image = np.asarray(cv2.cvtColor(visible // 2 + 40, cv2.COLOR_GRAY2BGR), np.uint8)
    thick = max(1, round(visible.shape[1] / 500))
    for residual in found.blocks:
        x, y = residual.position
        dx, dy = residual.offset
        colour = (80, 220, 80) if residual.length_px < 0.004 * visible.shape[1] else (60, 110, 255)
        cv2.circle(image, (round(x), round(y)), 2 * thick, colour, -1, cv2.LINE_AA)
        end = (round(x + 3 * dx), round(y + 3 * dy))
        cv2.arrowedLine(image, (round(x), round(y)), end, colour, thick, cv2.LINE_AA, tipLength=0.25)
    return image
