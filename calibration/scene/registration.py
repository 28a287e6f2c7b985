"""Calibration from the scene: registers the infrared to the visible view from a rig's image pairs.

::

    result = register(pairs)                # a search, then block matching, coarse to fine
    if result.refusal: ...                  # why not, and what to do
    result.matrix                           # 3x3, infrared pixel to visible pixel

The result comes with the evidence for it and a bound of its error, see :mod:`fusepipe.calibration.scene.match_quality`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from fusepipe.calibration.gradient_field import shrunk
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.ambiguity import EQUAL, SecondPlace, second_place
from fusepipe.calibration.scene.block_matching import VisibleFields, size_of, small_size
from fusepipe.calibration.scene.lens_estimation import MIN_GAIN, LensEvidence, lens_evidence, with_lens
from fusepipe.calibration.scene.local_matches import MODELS, PLANE_MODELS, Model
from fusepipe.calibration.scene.match_quality import BLOCKS_A_CELL, MIN_CONFIDENCE, MatchQuality, match_quality
from fusepipe.calibration.scene.refinement import best_refined, refined
from fusepipe.calibration.scene.search import DEFAULT_SCALES, Candidate, ScenePair, distinct, search, search_rolled
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Size

MIN_TEXTURE = 1.5  # grey levels of root mean square gradient below which there is nothing to match
NARROW_SCALES = (0.33, 0.72)  # of a narrow infrared view, which is searched for where no wider one is found
NARROW_CANDIDATES = 3
# measured: at least 0.46 where it was right; 0.31 in a mirrored street, whose houses resemble each other
NARROW_CONFIDENCE = 0.4
NARROW_BORDER = 0.2  # of a candidate's width and height: what it may be off by
NARROW_IN_PART = (0.6, 1.0)  # scales in the part with its border
MIN_SIDE_PX = 48
SEARCHED = 30  # percent of the time that the search takes

Step = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class SceneResult:
    """``matrix`` takes an infrared pixel (x, y, 1) to a visible pixel; ``refusal`` is the reason not to use it.

    With a ``lens`` (model ``homography+lens``) those are undistorted infrared pixels; ``bends`` is what the pairs say
    about the lens beside the matrix, where they were asked. ``second`` is another place that
    agrees nearly as well, where the scene repeats itself.
    """

    matrix: Matrix3
    model: Model
    quality: MatchQuality
    infrared_size: Size
    visible_size: Size
    pairs: int
    refusal: str = ""
    lens: Lens | None = None
    bends: LensEvidence | None = None
    second: SecondPlace | None = None
    candidates: Sequence[Candidate] = field(default=(), repr=False)


def register(
    pairs: Sequence[ScenePair],
    scales: tuple[float, float] = DEFAULT_SCALES,
    models: tuple[Model, ...] = MODELS,
    *,
    focal_px: float | None = None,
    explain: bool = True,
    step: Step = lambda done, total, what: None,
) -> SceneResult:
    """Registers the infrared views of these pairs, all of one rig, to the visible ones.

    ``scales`` bounds the ratio of the fields of view (infrared width over visible width); ``models`` are
    those to choose from. ``focal_px`` is the infrared camera's focal length where it is known. Where the search's first
    candidate fails, others are refined, up to a roll of 15 degrees, and then views down to a third of the visible width
    are searched for, which takes about four times as long. ``explain``
    searches for the reason of a failure (a mirrored image). ``step`` is called with the share of the time that has
    passed, about, in percent of 100, and what is being done. Raises :class:`UsageError` for pairs whose sizes differ
    from each other.
    """
    _check_sizes(pairs)
    result = _estimate(pairs, scales, models, focal_px, others=True, step=step)
    narrow = NARROW_SCALES if scales == DEFAULT_SCALES else (scales[0], min(scales[1], NARROW_SCALES[1]))
    if not result.quality.accepted and narrow[0] < narrow[1]:
        step(90, 100, "searching for a narrow view")
        result = _narrow(pairs, narrow, models, focal_px) or result
    step(97, 100, "checking the result")
    return replace(result, refusal=_refusal(pairs, result, scales, explain))


def _estimate(
    pairs: Sequence[ScenePair],
    scales: tuple[float, float],
    models: tuple[Model, ...],
    focal_px: float | None = None,
    others: bool = False,
    step: Step = lambda done, total, what: None,
) -> SceneResult:
    candidates = search(pairs, scales, step=lambda n, total: step(SEARCHED * n // total, 100, "searching"))
    fields = VisibleFields(pairs)
    step(SEARCHED, 100, "matching blocks")
    found = refined(pairs, candidates[0].matrix, fields, models)
    if others and not found.quality.accepted:
        step(55, 100, "trying other positions")
        rolled = sorted([*candidates, *search_rolled(pairs, scales)], key=lambda one: -one.strength)
        other = best_refined(pairs, rolled, fields, models)
        found = max(found, other or found, key=lambda one: one.quality.evidence)
    matrix, model, seen, lens, evidence = found.matrix, found.model, found.quality, None, None
    second = second_place(pairs, matrix, seen.evidence, fields, models) if seen.accepted else None
    if second is not None and second.part > 1.0:
        matrix, model, seen, second = second.found.matrix, second.found.model, second.found.quality, second.other(found)
    if "homography+lens" in models and seen.accepted:
        step(60, 100, "estimating the lens")
        evidence = lens_evidence(pairs, matrix, fields, focal_px=focal_px)
        bent = with_lens(pairs, matrix, fields, focal_px) if evidence.known else None
        if bent is not None:
            better = match_quality(pairs, bent.matrix, fields, bent.lens)
            gain = (better.evidence - seen.evidence) * BLOCKS_A_CELL * len(pairs)
            if better.correlation > seen.correlation and gain >= MIN_GAIN:
                matrix, lens, model, seen = bent.matrix, bent.lens, "homography+lens", better
    sizes = size_of(pairs[0].infrared), size_of(pairs[0].visible)
    return SceneResult(
        matrix, model, seen, *sizes, len(pairs), lens=lens, bends=evidence, second=second, candidates=candidates[:3]
    )


def _narrow(
    pairs: Sequence[ScenePair], scales: tuple[float, float], models: tuple[Model, ...], focal_px: float | None
) -> SceneResult | None:
    """The best accepted result in parts of the visible images; ``None`` where there is none.

    A narrow view covers few blocks of the whole image: it is registered to the part around each candidate instead.
    """
    infrared, visible = size_of(pairs[0].infrared), size_of(pairs[0].visible)
    found: list[SceneResult] = []
    for candidate in distinct(search(pairs, scales), infrared, visible, NARROW_CANDIDATES):
        x, y, width, height = around(candidate.matrix, infrared, visible)
        if min(width, height) < MIN_SIDE_PX:
            continue
        views = [replace(p, visible=np.ascontiguousarray(p.visible[y : y + height, x : x + width])) for p in pairs]
        part = _estimate(views, NARROW_IN_PART, models, focal_px)
        repeats = part.second is not None and part.second.part >= EQUAL
        if part.quality.accepted and part.quality.confidence >= NARROW_CONFIDENCE and not repeats:
            shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
            overlap = round(part.quality.overlap * width * height / (visible[0] * visible[1]), 4)
            quality = replace(part.quality, overlap=overlap)
            found.append(
                replace(part, matrix=shift @ part.matrix, quality=quality, visible_size=visible, candidates=())
            )
    return max(found, key=lambda one: one.quality.evidence, default=None)


def around(matrix: Matrix3, infrared: Size, visible: Size) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the part of the visible image that an infrared image covers, and ``NARROW_BORDER``."""
    corners = np.array([[[0, 0], [infrared[0], 0], [0, infrared[1]], infrared]], np.float64)
    there = cv2.perspectiveTransform(corners, matrix)[0]
    border = NARROW_BORDER * np.ptp(there, axis=0)
    low = np.clip(np.floor(there.min(axis=0) - border), 0, visible).astype(int)
    high = np.clip(np.ceil(there.max(axis=0) + border), 0, visible).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def _check_sizes(pairs: Sequence[ScenePair]) -> None:
    if not pairs:
        raise UsageError("a calibration from the scene needs at least one pair of images")
    sizes = {(pair.infrared.shape, pair.visible.shape) for pair in pairs}
    if len(sizes) > 1:
        texts = sorted(f"{i[1]}x{i[0]} and {v[1]}x{v[0]}" for i, v in sizes)
        raise UsageError(f"the pairs are of different sizes ({'; '.join(texts)}): use pairs of one rig only")
    infrared, visible = next(iter(sizes))
    for name, shape in (("infrared", infrared), ("visible", visible)):
        if min(shape) < MIN_SIDE_PX:
            raise UsageError(
                f"the {name} images are {shape[1]}x{shape[0]}: too small to match; the minimum is {MIN_SIDE_PX} pixels"
            )


# -- refusals


def texture(luma: Luma8) -> float:
    """Root mean square of the gradient, in grey levels per pixel, of the image at search size."""
    small = shrunk(luma, small_size((luma.shape[1], luma.shape[0]), 320)).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    gx, gy = cv2.Sobel(small, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(small, cv2.CV_32F, 0, 1, scale=0.125)
    return float(np.sqrt((gx * gx + gy * gy).mean()))


def _refusal(pairs: Sequence[ScenePair], result: SceneResult, scales: tuple[float, float], explain: bool) -> str:
    """Why the result is not reliable and what to do; empty where it is."""
    seen = result.quality
    if seen.accepted and result.second is not None and result.second.part >= EQUAL:
        return (
            f"{result.second.text}; add pairs of a scene that shows more than a repeating pattern, or whose border is "
            "inside both images"
        )
    if seen.accepted:
        return ""
    for band, images in (("infrared", [p.infrared for p in pairs]), ("visible", [p.visible for p in pairs])):
        strongest = max(texture(image) for image in images)
        if strongest < MIN_TEXTURE:
            return (
                f"the {band} {'images have' if len(pairs) > 1 else 'image has'} hardly any texture "
                f"({strongest:.1f} grey levels per pixel): point the rig at a scene with buildings, trees or vehicles"
            )
    if explain:
        mirrored = [replace(p, infrared=np.ascontiguousarray(p.infrared[:, ::-1])) for p in pairs]
        other = _estimate(mirrored, scales, PLANE_MODELS).quality
        if other.accepted and other.confidence > 2 * seen.confidence:
            return (
                "the infrared images are mirrored: they match the visible ones when flipped horizontally; disable "
                "mirroring (flip) in the infrared camera's settings"
            )
    if seen.pooled >= MIN_CONFIDENCE > seen.confidence and len(pairs) > 1:
        return (
            f"only {seen.pairs_near} of the {len(pairs)} pairs agree individually with the common result: check that "
            "the two images of every pair show the "
            "same scene at the same time, and omit pairs with little structure"
        )
    return (
        f"no alignment of the two views was found: {seen.agreement}; check that both images show the same scene at the "
        "same time, add pairs with more edges, or give the fields of view with --fov-infrared and --fov-visible"
    )
