"""Calibration from the scene: registers the infrared to the visible view from a rig's image pairs.

::

    result = register(pairs)                # a search, then block matching, coarse to fine
    if result.refusal: ...                  # why not, and what to do
    result.matrix                           # 3x3, infrared pixel to visible pixel

The result comes with a confidence, see :mod:`fusepipe.calibration.scene.match_quality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from fusepipe.calibration.gradient_field import shrunk
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.block_matching import (
    Level,
    VisibleFields,
    block_matches,
    small_size,
)
from fusepipe.calibration.scene.lens_estimation import with_lens
from fusepipe.calibration.scene.local_matches import MODELS, PLANE_MODELS, Matches, Model, fit, select_model
from fusepipe.calibration.scene.match_quality import MIN_BLOCKS, MIN_CONFIDENCE, MatchQuality, match_quality
from fusepipe.calibration.scene.search import DEFAULT_SCALES, Candidate, ScenePair, search
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Size

MIN_TEXTURE = 1.5  # grey levels of root mean square gradient below which there is nothing to match


COARSE: tuple[Model, ...] = ("similarity", "affine")
COARSE_LEVEL = Level(256, 40, 20, 10)
FINE = (Level(384, 48, 24, 8), Level(512, 48, 24, 8))


@dataclass(frozen=True, slots=True)
class SceneResult:
    """``matrix`` takes an infrared pixel (x, y, 1) to a visible pixel; ``refusal`` is the reason not to use it.

    With a ``lens`` (model ``homography+lens``) those are undistorted infrared pixels.
    """

    matrix: Matrix3
    model: Model
    quality: MatchQuality
    infrared_size: Size
    visible_size: Size
    pairs: int
    refusal: str = ""
    lens: Lens | None = None
    candidates: Sequence[Candidate] = field(default=(), repr=False)


def register(
    pairs: Sequence[ScenePair],
    scales: tuple[float, float] = DEFAULT_SCALES,
    models: tuple[Model, ...] = MODELS,
    *,
    focal_px: float | None = None,
    explain: bool = True,
) -> SceneResult:
    """Registers the infrared views of these pairs, all of one rig, to the visible ones.

    ``scales`` bounds the ratio of the fields of view (infrared width over visible width); ``models`` are
    those to choose from. ``focal_px`` is the infrared camera's focal length where it is known. ``explain``
    searches for the reason of a failure (a mirrored image), which doubles the time. Raises
    :class:`UsageError` for pairs whose sizes differ from each other.
    """
    infrared_size, visible_size = _sizes(pairs)
    candidates = search(pairs, scales)
    matrix = candidates[0].matrix
    model: Model = "similarity"
    fields = VisibleFields(pairs)
    for coarse in COARSE:
        matches = block_matches(pairs, matrix, COARSE_LEVEL, fields)
        if len(matches.centres) >= MIN_BLOCKS:
            wanted = coarse if coarse in models else "similarity"
            matrix = _improved(matrix, matches, fit(matches, wanted).matrix, visible_size)
    for level in FINE:
        matches = block_matches(pairs, matrix, level, fields)
        if len(matches.centres) < MIN_BLOCKS:
            continue
        best = select_model(matches, tuple(m for m in PLANE_MODELS if m in models))
        matrix = _improved(matrix, matches, best.matrix, visible_size)
        # the coarse levels have given the matrix an affine part already
        model = max(model, best.model, key=MODELS.index)
    if "affine" in models and model in ("shift", "similarity"):
        model = "affine"
    seen, lens = match_quality(pairs, matrix, fields), None
    if "homography+lens" in models and seen.confidence >= MIN_CONFIDENCE:
        bent = with_lens(pairs, matrix, fields, focal_px)
        if bent is not None:
            better = match_quality(pairs, bent.matrix, fields, bent.lens)
            if better.correlation > seen.correlation:
                matrix, lens, model, seen = bent.matrix, bent.lens, "homography+lens", better
    result = SceneResult(
        matrix, model, seen, infrared_size, visible_size, len(pairs), lens=lens, candidates=candidates[:3]
    )
    return replace(result, refusal=_refusal(pairs, result, scales, explain))


def _improved(matrix: Matrix3, matches: Matches, change: Matrix3, visible_size: Size) -> Matrix3:
    better = scaling(matches.size, visible_size) @ change @ scaling(visible_size, matches.size) @ matrix
    return np.asarray(better / better[2, 2], np.float64)


def _sizes(pairs: Sequence[ScenePair]) -> tuple[Size, Size]:
    if not pairs:
        raise UsageError("a calibration from the scene needs at least one pair of images")
    sizes = {(pair.infrared.shape, pair.visible.shape) for pair in pairs}
    if len(sizes) > 1:
        texts = sorted(f"{i[1]}x{i[0]} and {v[1]}x{v[0]}" for i, v in sizes)
        raise UsageError(f"the pairs are of different sizes ({'; '.join(texts)}): use pairs of one rig only")
    infrared, visible = next(iter(sizes))
    for name, shape in (("infrared", infrared), ("visible", visible)):
        if min(shape) < 48:
            raise UsageError(
                f"the {name} images are {shape[1]}x{shape[0]}: too small to match; the minimum is 48 pixels"
            )
    return (infrared[1], infrared[0]), (visible[1], visible[0])


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
    if seen.confidence >= MIN_CONFIDENCE and seen.blocks >= MIN_BLOCKS:
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
        other = register(mirrored, scales, explain=False)
        if not other.refusal and other.quality.confidence > 2 * seen.confidence:
            return (
                "the infrared images are mirrored: they match the visible ones when flipped horizontally; disable "
                "mirroring (flip) in the infrared camera's settings"
            )
    if seen.pooled >= MIN_CONFIDENCE and len(pairs) > 1:
        return (
            f"only {seen.pairs_near} of the {len(pairs)} pairs agree individually with the common result (confidence "
            f"{seen.confidence:.2f}, minimum {MIN_CONFIDENCE}): check that the two images of every pair show the "
            "same scene at the same time, and omit pairs with little structure"
        )
    return (
        f"no alignment of the two views was found (confidence {seen.confidence:.2f}, minimum {MIN_CONFIDENCE}): check "
        "that both images show the same scene at the same time, add pairs with more edges, or give the fields of "
        "view with --fov-infrared and --fov-visible"
    )
