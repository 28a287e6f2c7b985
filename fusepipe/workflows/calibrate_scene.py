"""``fusepipe calibrate scene``: a calibration from image pairs of the scene, with hints about the rig."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusepipe.calibration.file.model import Calibration, Kind, Made, make_calibration
from fusepipe.calibration.scene.lens_estimation import MIN_PAIRS
from fusepipe.calibration.scene.local_matches import MODELS, Model
from fusepipe.calibration.scene.registration import SceneResult, register
from fusepipe.calibration.scene.search import DEFAULT_SCALES, ScenePair
from fusepipe.core.errors import UsageError
from fusepipe.core.units import MS
from fusepipe.workflows.probe_report import RecordingTiming

HINT_TOLERANCE = 1.12  # tolerance of fields of view from data sheets, as a factor


@dataclass(frozen=True, slots=True)
class Hints:
    """Known properties of the rig: horizontal fields of view in degrees, and the position of the infrared camera.

    ``mount_m`` is its distance to the right of and below the visible camera; ``distance_m`` is that of
    the scene.
    """

    infrared_fov_deg: float | None = None
    visible_fov_deg: float | None = None
    mount_m: tuple[float, float] | None = None
    distance_m: float | None = None

    def __post_init__(self) -> None:
        if (self.infrared_fov_deg is None) != (self.visible_fov_deg is None):
            raise UsageError("give the fields of view of both cameras, --fov-infrared and --fov-visible")
        if self.mount_m is not None and (self.visible_fov_deg is None or self.distance_m is None):
            raise UsageError("--mount needs --fov-infrared, --fov-visible and --plane-distance as well")

    @property
    def scales(self) -> tuple[float, float]:
        """Bounds of the infrared view's width over the visible view's."""
        if self.infrared_fov_deg is None or self.visible_fov_deg is None:
            return DEFAULT_SCALES
        ratio = math.tan(math.radians(self.infrared_fov_deg / 2)) / math.tan(math.radians(self.visible_fov_deg / 2))
        return ratio / HINT_TOLERANCE, ratio * HINT_TOLERANCE

    def infrared_focal_px(self, width_px: int) -> float | None:
        """For an infrared image of this width; ``None`` where the field of view is not known."""
        if self.infrared_fov_deg is None:
            return None
        return width_px / 2 / math.tan(math.radians(self.infrared_fov_deg / 2))

    def parallax_px_m(self, visible_width_px: int) -> tuple[float, float] | None:
        """Visible pixels times metres by which the infrared image moves as 1/distance grows."""
        if self.mount_m is None or self.visible_fov_deg is None:
            return None
        focal_px = visible_width_px / 2 / math.tan(math.radians(self.visible_fov_deg / 2))
        return focal_px * self.mount_m[0], focal_px * self.mount_m[1]


def calibrate_scene(
    pairs: Sequence[ScenePair],
    hints: Hints | None = None,
    models: tuple[Model, ...] = MODELS,
    note: str | None = None,
    step: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[SceneResult, Calibration | None]:
    """Registers the pairs, all of one rig; no calibration where the result is not reliable.

    ``step``: see :func:`fusepipe.calibration.scene.registration.register`.
    """
    hints = hints or Hints()
    focal_px = hints.infrared_focal_px(pairs[0].infrared.shape[1]) if pairs else None
    result = register(pairs, hints.scales, models, focal_px=focal_px, step=step)
    if result.refusal:
        return result, None
    matrix = result.matrix.copy()
    kind: Kind = "affine"
    if result.model == "homography" or result.model == "homography+lens":
        kind = result.model
    else:
        matrix[2, :2] = 0.0
    calibration = make_calibration(
        kind,
        result.infrared_size,
        result.visible_size,
        matrix,
        made=Made(by="fusepipe calibrate scene", date=datetime.datetime.now(datetime.UTC).date(), note=note),
        quality=_quality(result),
        plane_distance_m=hints.distance_m,
        parallax_px_m=hints.parallax_px_m(result.visible_size[0]),
        infrared_lens=result.lens,
    )
    return result, calibration


def _quality(result: SceneResult) -> dict[str, float | str]:
    seen = result.quality
    quality: dict[str, float | str] = {
        "confidence": seen.confidence,
        "correlation": seen.correlation,
        "blocks_near": seen.near,
        "overlap": seen.overlap,
        "pairs": result.pairs,
        "model": result.model,
    }
    if seen.error_bound is not None:
        quality["expected_error_centre_px"] = seen.error_bound.centre_px
        quality["expected_error_corners_px"] = seen.error_bound.corners_px
    return quality


def with_timing(calibration: Calibration, timing: RecordingTiming | None) -> Calibration:
    """The calibration of recordings with a sure offset of their times among its figures."""
    if timing is None or timing.motion is None or not timing.sure:
        return calibration
    times = {
        "time_offset_ms": round(timing.motion.offset_ns / MS, 1),
        "time_offset_uncertainty_ms": round(timing.motion.uncertainty_ns / MS, 1),
    }
    return calibration.model_copy(update={"quality": {**(calibration.quality or {}), **times}})


def reliability_warning(result: SceneResult) -> str:
    """Why an accepted result may be wrong; empty if there is no reason."""
    if result.second is not None:
        return f"{result.second.text}; check the overlay for an offset by one period"
    alone, pairs = result.quality.pairs_near, result.pairs
    if pairs < 2 or alone > pairs / 2:
        return ""
    return (
        f"only {alone} of the {pairs} pairs agree individually: they show objects at several distances or too little "
        "structure, or the cameras moved relative to each other or did not expose at the same time"
    )


def lens_note(result: SceneResult) -> str:
    """What is not known about the infrared lens, and what would tell; empty where it is known."""
    bends = result.bends
    if result.lens is not None or bends is None or bends.known:
        return ""
    pattern = f"{bends.text}; " if bends.text else ""
    advice = f"{MIN_PAIRS} pairs or more with edges out to the corners, or a board, tell"
    if not bends.reaches:
        return (
            f"the distortion of the infrared lens is not known, because the corners show no edges in common: {advice}"
        )
    return (
        f"{pattern}the distortion of the infrared lens is not known from one pair, and the corners may be off by more "
        f"than stated: {advice}"
    )


def result_json(result: SceneResult, names: Sequence[str], timing: RecordingTiming | None = None) -> dict[str, Any]:
    """The result as plain values for JSON; ``names`` are those of the pairs, ``timing`` is that of recordings."""
    return {
        "model": result.model,
        "matrix": result.matrix.tolist(),
        "infrared_lens": None if result.lens is None else asdict(result.lens),
        **asdict(result.quality),
        "lens_bend": None if result.bends is None else round(result.bends.bend, 4),
        "lens_note": lens_note(result),
        "second_place_px": None if result.second is None else round(result.second.apart_px, 1),
        "pairs": list(names),
        "timing": None if timing is None else {**asdict(timing), "offset_key": timing.offset_key},
        "infrared_size": list(result.infrared_size),
        "visible_size": list(result.visible_size),
        "refusal": result.refusal,
        "warning": "" if result.refusal else reliability_warning(result),
    }
