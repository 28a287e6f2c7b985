"""Calibration from the scene itself: what a rig's image pairs say of how the two views lie.

::

    result = register(pairs)                # a search, then block matching, coarse to fine
    if result.refusal: ...                  # why not, and what to do
    result.matrix                           # 3x3, infrared pixel to visible pixel

The result comes with a confidence: the part of the blocks that, each by itself, fit best where the map
says, above what chance gives. A wrong map has almost none of them, whatever its correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import Field, gradient_field, shrunk
from fusepipe.calibration.local_matches import MODELS, Matches, Model, choose, fit, match_blocks, pooled
from fusepipe.calibration.matrix import Matrix3, Size, scaling
from fusepipe.calibration.scene_search import DEFAULT_SCALES, Candidate, ScenePair, search
from fusepipe.errors import UsageError
from fusepipe.frames import Luma8

MIN_CONFIDENCE = 0.3  # of pairs that do not belong together at most 0.27 was seen, of those that do at least 0.55
MIN_BLOCKS = 12
MIN_TEXTURE = 1.5  # grey levels of root mean square gradient below which there is nothing to match
CHECK_WIDTH_PX = 384


@dataclass(frozen=True, slots=True)
class Level:
    """One round of block matching: width of the visible image, block, step and radius in its pixels."""

    width_px: int
    block_px: int
    step_px: int
    radius_px: int
    models: tuple[Model, ...]


COARSE = (Level(256, 40, 20, 10, ("similarity",)), Level(256, 40, 20, 10, ("affine",)))
FINE = (Level(384, 48, 24, 8, MODELS), Level(512, 48, 24, 8, MODELS))
CHECK = Level(CHECK_WIDTH_PX, 48, 24, 8, MODELS)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a map fits pairs. Everything in -1..1 or 0..1 but the counts.

    ``correlation`` is that of the gradient fields over the overlap; ``near`` the part of the blocks that
    fit best, each by itself, within 2.5 px (of a visible image 384 wide) of where the map puts them, a block being
    the same part of all pairs: what one pair leaves open, another may tell; ``overlap`` the part of the visible
    picture that the infrared camera sees; ``pairs_near`` how many pairs say so by themselves.
    """

    correlation: float
    near: float
    confidence: float
    overlap: float
    blocks: int
    pairs_near: int


@dataclass(frozen=True, slots=True)
class SceneResult:
    """``matrix`` takes an infrared pixel (x, y, 1) to a visible pixel; ``refusal`` says why not to use it."""

    matrix: Matrix3
    model: Model
    agreement: Agreement
    infrared_size: Size
    visible_size: Size
    pairs: int
    refusal: str = ""
    candidates: Sequence[Candidate] = field(default=(), repr=False)


def register(
    pairs: Sequence[ScenePair],
    scales: tuple[float, float] = DEFAULT_SCALES,
    models: tuple[Model, ...] = MODELS,
    *,
    explain: bool = True,
) -> SceneResult:
    """How the infrared views of these pairs, all of one rig, lie in the visible ones.

    ``scales`` bounds the ratio of the fields of view (infrared width over visible width); ``models`` are
    those to choose from. ``explain`` looks for the reason of a failure (a mirrored image), which takes as
    long again. Raises :class:`UsageError` for pairs whose sizes differ from each other.
    """
    infrared_size, visible_size = _sizes(pairs)
    candidates = search(pairs, scales)
    matrix = candidates[0].matrix
    model: Model = "similarity"
    fields = _VisibleFields(pairs)
    for level in COARSE:
        matches = block_matches(pairs, matrix, level, fields)
        if len(matches.centres) >= MIN_BLOCKS:
            wanted = level.models[0] if level.models[0] in models else "similarity"
            matrix = _improved(matrix, matches, fit(matches, wanted).matrix, visible_size)
    for level in FINE:
        matches = block_matches(pairs, matrix, level, fields)
        if len(matches.centres) < MIN_BLOCKS:
            continue
        allowed = tuple(m for m in level.models if m in models)
        best = choose(matches, allowed)
        matrix = _improved(matrix, matches, best.matrix, visible_size)
        # the coarse rounds have given the matrix an affine part already
        model = max(model, best.model, key=MODELS.index)
    if "affine" in models and model in ("shift", "similarity"):
        model = "affine"
    result = SceneResult(
        matrix,
        model,
        agreement(pairs, matrix, fields),
        infrared_size,
        visible_size,
        len(pairs),
        candidates=candidates[:3],
    )
    return replace(result, refusal=_refusal(pairs, result, scales, explain))


def agreement(pairs: Sequence[ScenePair], matrix: Matrix3, fields: _VisibleFields | None = None) -> Agreement:
    """How well a matrix (infrared to visible pixel) fits pairs."""
    fields = fields or _VisibleFields(pairs)
    products, overlaps, found = [], [], []
    for index, pair in enumerate(pairs):
        infrared, seen = warped_field(pair, matrix, CHECK.width_px)
        visible = fields.at(index, CHECK.width_px)
        mask = seen[..., None]
        energy = float((infrared * infrared * mask).sum()) * float((visible * visible * mask).sum())
        products.append(float((infrared * visible * mask).sum()) / max(energy, 1e-12) ** 0.5)
        overlaps.append(float(seen.mean()))
        found.append(_matches(infrared, visible, seen, CHECK))
    together = pooled(found)
    blocks, chance = len(together.centres), together.chance
    near = float(together.near().mean()) if blocks else 0.0
    alone = [float(one.near().mean()) for one in found if len(one.centres) >= MIN_BLOCKS]
    return Agreement(
        correlation=round(float(np.mean(products)), 4),
        near=round(near, 4),
        confidence=round(max(0.0, (near - chance) / (1 - chance)), 4),
        overlap=round(float(np.mean(overlaps)), 4),
        blocks=blocks,
        pairs_near=sum(part - chance >= MIN_CONFIDENCE * (1 - chance) for part in alone),
    )


def block_matches(
    pairs: Sequence[ScenePair], matrix: Matrix3, level: Level, fields: _VisibleFields | None = None
) -> Matches:
    """The correlation surfaces of a level, pooled over the pairs."""
    fields = fields or _VisibleFields(pairs)
    found = []
    for index, pair in enumerate(pairs):
        infrared, seen = warped_field(pair, matrix, level.width_px)
        found.append(_matches(infrared, fields.at(index, level.width_px), seen, level))
    return pooled(found)


def warped_field(pair: ScenePair, matrix: Matrix3, width_px: int) -> tuple[Field, NDArray[np.float32]]:
    """The infrared gradient field in the visible geometry at a width, and where it is seen (HxW, 1 or 0)."""
    vis_h, vis_w = pair.visible.shape
    size = small_size((vis_w, vis_h), width_px)
    small = scaling((vis_w, vis_h), size) @ matrix
    shrink = float(np.sqrt(abs(np.linalg.det(small[:2, :2]))))
    source = pair.infrared
    if shrink < 0.8:  # less would alias
        source = np.asarray(cv2.GaussianBlur(source, (0, 0), 0.4 / shrink), np.uint8)
    warped = cv2.warpPerspective(source, small, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.full(source.shape, 255, np.uint8), small, size)
    # two pixels at the border see the border in their gradients
    seen = cv2.erode((inside == 255).astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1)
    return gradient_field(np.asarray(warped, np.uint8)), np.asarray(seen, np.float32)


def small_size(size: Size, width_px: int) -> Size:
    """``size`` scaled down to a width; never up."""
    width = min(width_px, size[0])
    return width, max(8, round(width * size[1] / size[0]))


class _VisibleFields:
    """The gradient fields of the visible images at each width, computed once."""

    def __init__(self, pairs: Sequence[ScenePair]) -> None:
        self._pairs = pairs
        self._made: dict[tuple[int, int], Field] = {}

    def at(self, index: int, width_px: int) -> Field:
        visible = self._pairs[index].visible
        size = small_size((visible.shape[1], visible.shape[0]), width_px)
        key = index, size[0]
        if key not in self._made:
            self._made[key] = gradient_field(shrunk(visible, size))
        return self._made[key]


def _matches(infrared: Field, visible: Field, seen: NDArray[np.float32], level: Level) -> Matches:
    scale = min(1.0, seen.shape[1] / level.width_px)  # small images have smaller blocks
    block = max(16, round(level.block_px * scale))
    step = max(8, round(level.step_px * scale))
    return match_blocks(infrared, visible, seen, block_px=block, step_px=step, radius_px=level.radius_px)


def _improved(matrix: Matrix3, matches: Matches, change: Matrix3, visible_size: Size) -> Matrix3:
    better = scaling(matches.size, visible_size) @ change @ scaling(visible_size, matches.size) @ matrix
    return np.asarray(better / better[2, 2], np.float64)


def _sizes(pairs: Sequence[ScenePair]) -> tuple[Size, Size]:
    if not pairs:
        raise UsageError("a calibration from the scene needs at least one pair of images")
    sizes = {(pair.infrared.shape, pair.visible.shape) for pair in pairs}
    if len(sizes) > 1:
        texts = sorted(f"{i[1]}x{i[0]} and {v[1]}x{v[0]}" for i, v in sizes)
        raise UsageError(f"the pairs are of different sizes ({'; '.join(texts)}): give pairs of one rig only")
    infrared, visible = next(iter(sizes))
    for name, shape in (("infrared", infrared), ("visible", visible)):
        if min(shape) < 48:
            raise UsageError(f"the {name} images are {shape[1]}x{shape[0]}: too small to match, 48 pixels at least")
    return (infrared[1], infrared[0]), (visible[1], visible[0])


# -- when it does not know


def texture(luma: Luma8) -> float:
    """Root mean square of the gradient, in grey levels a pixel, of the image at search size."""
    small = shrunk(luma, small_size((luma.shape[1], luma.shape[0]), 320)).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    gx, gy = cv2.Sobel(small, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(small, cv2.CV_32F, 0, 1, scale=0.125)
    return float(np.sqrt((gx * gx + gy * gy).mean()))


def _refusal(pairs: Sequence[ScenePair], result: SceneResult, scales: tuple[float, float], explain: bool) -> str:
    """Why the result cannot be trusted and what to do; empty where it can."""
    seen = result.agreement
    if seen.confidence >= MIN_CONFIDENCE and seen.blocks >= MIN_BLOCKS:
        return ""
    for band, images in (("infrared", [p.infrared for p in pairs]), ("visible", [p.visible for p in pairs])):
        strongest = max(texture(image) for image in images)
        if strongest < MIN_TEXTURE:
            return (
                f"the {band} {'images have' if len(pairs) > 1 else 'image has'} hardly any texture "
                f"({strongest:.1f} grey levels a pixel): point the rig at a scene with buildings, trees or vehicles"
            )
    if explain:
        mirrored = [replace(p, infrared=np.ascontiguousarray(p.infrared[:, ::-1])) for p in pairs]
        other = register(mirrored, scales, explain=False)
        if not other.refusal and other.agreement.confidence > 2 * seen.confidence:
            return (
                "the infrared images are mirrored: they fit the visible ones when left and right are exchanged; "
                "switch mirroring (flip) off in the infrared camera's settings"
            )
    return (
        f"the two views do not agree anywhere (confidence {seen.confidence:.2f}, {MIN_CONFIDENCE} is needed): check "
        "that both images show the same scene at the same time, add pairs with more edges, or give the fields of "
        "view with --fov-infrared and --fov-visible"
    )
