"""How well a map from infrared to visible pixels fits pairs of a scene, as a confidence.

Confidence is the fraction of blocks whose individual best match agrees with the map, above chance. A wrong map has
almost none of them, whatever its correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.gradient_field import energy
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.block_matching import Level, VisibleFields, WarpedInfrared, level_matches, size_of
from fusepipe.calibration.scene.error_bound import ErrorBound, error_bound, view_parts, view_points
from fusepipe.calibration.scene.local_matches import Matches, log_likelihood, pooled
from fusepipe.calibration.scene.search import ScenePair

MIN_CONFIDENCE = 0.3
MIN_BLOCKS = 12
# Measured (docs/measurements/registration.md): pairs that do not belong together have evidence up to 7.5 with the best
# of 24 refined candidates, and up to 30 agreeing blocks; most maps that are right have more than 14 and 35.
MIN_EVIDENCE = 12.0
MIN_AGREEING = 32
MIN_PARTS = 3  # of nine: agreement in a corner does not fix a map
PART_AGREES = 0.25  # of a part's blocks
EDGE, MIN_AT_EDGE = 0.6, 6
BLOCKS_A_CELL = 4  # blocks overlap by half in both directions: so many share a place
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

    ``evidence`` is the natural logarithm of how much likelier the images are with this map than with blocks displaced
    at random; images that do not belong together reach a value v by chance with a probability of at most exp(-v) for
    each map that is tried. ``agreeing`` is the number of blocks that agree, ``parts`` in how many of nine parts of the
    common view they do, ``edge`` the fraction of the blocks near the corners of the common view that agree (``None``
    without enough of them). ``error_bound`` bounds the error of the map if it is the right one; ``None`` where too
    little agrees to believe that.
    """

    correlation: float
    near: float
    pooled: float
    confidence: float
    overlap: float
    blocks: int
    pairs_near: int
    evidence: float
    agreeing: int
    parts: int
    edge: float | None
    error_bound: ErrorBound | None

    @property
    def accepted(self) -> bool:
        """Whether the map is reliable, and enough of the image agrees in most of the pairs."""
        return self.reliable and self.confidence >= MIN_CONFIDENCE

    @property
    def reliable(self) -> bool:
        """Whether more blocks agree, in more parts of the image, than those of images that do not belong together."""
        return self.evidence >= MIN_EVIDENCE and self.agreeing >= MIN_AGREEING and self.parts >= MIN_PARTS

    @property
    def agreement(self) -> str:
        """The agreement in words, with what acceptance needs."""
        edge = "" if self.edge is None else f" ({self.edge:.0%} near the corners)"
        words = f"{self.agreeing} of {self.blocks} blocks agree{edge}, in {self.parts} of 9 parts of the image"
        needed = []
        if self.agreeing < MIN_AGREEING or self.parts < MIN_PARTS:
            needed.append(f"{MIN_AGREEING} blocks in {MIN_PARTS} parts")
        if self.confidence < MIN_CONFIDENCE:
            needed.append(f"{MIN_CONFIDENCE:.0%} of the blocks more than by chance")
        if self.evidence < MIN_EVIDENCE:
            needed.append(f"evidence of {MIN_EVIDENCE:.0f} (this is {self.evidence:.1f})")
        return words + (f"; needed: {', '.join(needed)}" if needed else "")


def match_quality(
    pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields | None = None, lens: Lens | None = None
) -> MatchQuality:
    """How well a matrix (infrared to visible pixel, without the distortion of a ``lens``) fits pairs."""
    fields = fields or VisibleFields(pairs)
    view = WarpedInfrared(matrix, lens, size_of(pairs[0].infrared), size_of(pairs[0].visible), LEVEL.width_px)
    products, found = [], []
    for index, pair in enumerate(pairs):
        infrared, visible = view.field(pair.infrared), fields.at(index, LEVEL.width_px)
        energies = float((energy(infrared) * view.seen).sum()) * float((energy(visible) * view.seen).sum())
        product = infrared[..., 0] * visible[..., 0] + infrared[..., 1] * visible[..., 1]
        products.append(float((product * view.seen).sum()) / max(energies, 1e-12) ** 0.5)
        found.append(level_matches(infrared, visible, view.seen, LEVEL))
    together = pooled(found)
    telling = sorted((one for one in found if len(one.centres) >= MIN_BLOCKS), key=lambda one: float(one.near().mean()))
    alone = [_confidence(one) for one in telling]
    weaker = _confidence(pooled(telling[: len(telling) // 2])) if len(telling) > 1 else _confidence(together)
    quality = MatchQuality(
        correlation=round(float(np.mean(products)), 4),
        near=round(float(together.near().mean()), 4) if len(together.centres) else 0.0,
        pooled=round(_confidence(together), 4),
        confidence=round((_confidence(together) + weaker) / 2, 4),
        overlap=round(float(view.seen.mean()), 4),
        blocks=len(together.centres),
        pairs_near=sum(confidence >= MIN_CONFIDENCE for confidence in alone),
        evidence=round(_evidence(together), 2),
        agreeing=int(together.near().sum()),
        parts=_agreeing_parts(together),
        edge=_agreeing_at_the_edge(together, view.seen),
        error_bound=None,
    )
    if not quality.reliable:
        return quality
    return replace(quality, error_bound=error_bound(together, view.seen, pairs[0].visible.shape[1]))


def _evidence(matches: Matches) -> float:
    """The logarithm of how much likelier the blocks' surfaces are with the map than with displacements at random.

    By Markov's inequality, images that do not belong together reach a value v with a probability of at most exp(-v) for
    a map chosen beforehand. Blocks overlap by half in both directions, so that four are counted as one.
    """
    if not len(matches.centres):
        return 0.0
    return log_likelihood(matches, np.zeros((len(matches.centres), 2))) / BLOCKS_A_CELL


def _agreeing_at_the_edge(matches: Matches, seen: NDArray[np.float32]) -> float | None:
    """The fraction of the blocks beyond ``EDGE`` of the way from the centre to the corners that agree."""
    centre, *corners = view_points(seen)
    most = float(np.mean([np.hypot(*(corner - centre)) for corner in corners]))
    off = matches.centres - centre
    outside = np.hypot(off[:, 0], off[:, 1]) > EDGE * most
    return round(float(matches.near()[outside].mean()), 4) if outside.sum() >= MIN_AT_EDGE else None


def _agreeing_parts(matches: Matches) -> int:
    """In how many of nine parts of the view with as many blocks at least two, and a fair share, agree."""
    if not len(matches.centres):
        return 0
    near, part = matches.near(), view_parts(matches.centres)
    agree = [near[part == one] for one in np.unique(part)]
    return sum(bool(one.sum() >= 2 and one.mean() >= PART_AGREES) for one in agree)


def _confidence(matches: Matches) -> float:
    """The fraction of the blocks whose peak is at their position, above chance: 0..1."""
    if not len(matches.centres):
        return 0.0
    return max(0.0, (float(matches.near().mean()) - matches.chance) / (1 - matches.chance))
