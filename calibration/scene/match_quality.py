"""How well a map from infrared to visible pixels fits pairs of a scene, as a confidence.

Confidence is the fraction of blocks whose individual best match agrees with the map, above chance. A wrong map has
almost none of them, whatever its correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.block_matching import Level, VisibleFields, WarpedInfrared, level_matches, size_of
from fusepipe.calibration.scene.local_matches import Matches, pooled
from fusepipe.calibration.scene.search import ScenePair

MIN_CONFIDENCE = 0.3  # measured: at most 0.27 for pairs that do not belong together, at least 0.55 for pairs that do
MIN_BLOCKS = 12
LEVEL = Level(384, 48, 24, 8)


@dataclass(frozen=True, slots=True)
class MatchQuality:
    """How well a map fits pairs; all values are in -1..1 or 0..1 except the counts.

    ``correlation`` is that of the gradient fields over the overlap; ``near`` the fraction of the blocks
    whose correlation peak is within 2.5 px (of a visible image 384 wide) of the map, a block being pooled over all
    pairs, so that pairs complement each other; ``overlap`` the fraction of the visible image that the infrared camera
    sees; ``pairs_near`` the number of pairs that agree individually. ``pooled`` is ``near`` above chance.
    ``confidence`` is the mean of it and of its value for the half of the pairs that agree least: a few good pairs among
    others that show something else do not make it high.
    """

    correlation: float
    near: float
    pooled: float
    confidence: float
    overlap: float
    blocks: int
    pairs_near: int


def match_quality(
    pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields | None = None, lens: Lens | None = None
) -> MatchQuality:
    """How well a matrix (infrared to visible pixel, without the distortion of a ``lens``) fits pairs."""
    fields = fields or VisibleFields(pairs)
    view = WarpedInfrared(matrix, lens, size_of(pairs[0].infrared), size_of(pairs[0].visible), LEVEL.width_px)
    mask = view.seen[..., None]
    products, found = [], []
    for index, pair in enumerate(pairs):
        infrared, visible = view.field(pair.infrared), fields.at(index, LEVEL.width_px)
        energy = float((infrared * infrared * mask).sum()) * float((visible * visible * mask).sum())
        products.append(float((infrared * visible * mask).sum()) / max(energy, 1e-12) ** 0.5)
        found.append(level_matches(infrared, visible, view.seen, LEVEL))
    together = pooled(found)
    telling = sorted((one for one in found if len(one.centres) >= MIN_BLOCKS), key=lambda one: float(one.near().mean()))
    alone = [_confidence(one) for one in telling]
    weaker = _confidence(pooled(telling[: len(telling) // 2])) if len(telling) > 1 else _confidence(together)
    return MatchQuality(
        correlation=round(float(np.mean(products)), 4),
        near=round(float(together.near().mean()), 4) if len(together.centres) else 0.0,
        pooled=round(_confidence(together), 4),
        confidence=round((_confidence(together) + weaker) / 2, 4),
        overlap=round(float(view.seen.mean()), 4),
        blocks=len(together.centres),
        pairs_near=sum(confidence >= MIN_CONFIDENCE for confidence in alone),
    )


def _confidence(matches: Matches) -> float:
    """The fraction of the blocks whose peak is at their position, above chance: 0..1."""
    if not len(matches.centres):
        return 0.0
    return max(0.0, (float(matches.near().mean()) - matches.chance) / (1 - matches.chance))
