"""Refines a search candidate by block matching, coarse to fine, and chooses between several candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.calibration.scene.block_matching import Level, VisibleFields, block_matches, size_of
from fusepipe.calibration.scene.local_matches import MODELS, PLANE_MODELS, Matches, Model, fit, select_model
from fusepipe.calibration.scene.match_quality import BLOCKS_A_CELL, MIN_BLOCKS, MatchQuality, match_quality
from fusepipe.calibration.scene.search import Candidate, ScenePair, distinct
from fusepipe.core.frames import Size

COARSE: tuple[Model, ...] = ("similarity", "affine")
COARSE_LEVEL = Level(256, 40, 20, 10)
# Evidence after each coarse fit below which a candidate is given up: measured on 430 candidates, none of those that are
# dropped would have had more than 6.7 at the end, and none of those that were accepted had less than 11 and 13 here
HOPEFUL_EVIDENCE = (2.0, 3.0)
FINE = (Level(384, 48, 24, 8), Level(512, 48, 24, 8))

MAX_CANDIDATES = 24  # measured: the right one was number 2 to 21 where it was not the first
MAX_FINE = 4  # of them, the best after the coarse levels, are refined to the end
MAX_COARSE_PAIRS = 4  # the coarse levels of many candidates see this many pairs only


@dataclass(frozen=True, slots=True)
class Refined:
    """``matrix`` 3x3, infrared pixel to visible pixel, and its measured quality; without a lens."""

    matrix: Matrix3
    model: Model
    quality: MatchQuality


def refined(pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields, models: Sequence[Model]) -> Refined:
    """A candidate's matrix after all levels, or after the coarse ones where little agrees then."""
    matrix, hopeful = coarsely(pairs, matrix, fields, models)
    if not hopeful:
        return Refined(matrix, _affine(models, "similarity"), match_quality(pairs, matrix, fields))
    return _finely(pairs, matrix, fields, models)


def best_refined(
    pairs: Sequence[ScenePair], candidates: Sequence[Candidate], fields: VisibleFields, models: Sequence[Model]
) -> Refined | None:
    """The one on which most blocks agree, of up to ``MAX_CANDIDATES`` that differ; ``None`` where few do on any."""
    infrared, visible = size_of(pairs[0].infrared), size_of(pairs[0].visible)
    chosen = [round(i) for i in np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_COARSE_PAIRS))]
    few = [pairs[index] for index in chosen]
    few_fields = VisibleFields(few) if len(few) < len(pairs) else fields
    tried = []
    for candidate in distinct(candidates, infrared, visible, MAX_CANDIDATES):
        matrix, hopeful = coarsely(few, candidate.matrix, few_fields, models)
        if hopeful:
            tried.append((match_quality(few, matrix, few_fields).evidence, matrix))
    tried.sort(key=lambda one: -one[0])
    finished = [_finely(pairs, matrix, fields, models) for _, matrix in tried[:MAX_FINE]]
    return max(finished, key=lambda one: (one.quality.accepted, one.quality.evidence), default=None)


def coarsely(
    pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields, models: Sequence[Model]
) -> tuple[Matrix3, bool]:
    """A candidate's matrix after the coarse levels, and whether enough agrees to go on; else it may be unfinished."""
    for coarse, enough in zip(COARSE, HOPEFUL_EVIDENCE, strict=True):
        matches = block_matches(pairs, matrix, COARSE_LEVEL, fields)
        if len(matches.centres) >= MIN_BLOCKS:  # with fewer, the finer levels may still have enough
            found = fit(matches, coarse if coarse in models else "similarity")
            matrix = _improved(matrix, matches, found.matrix, size_of(pairs[0].visible))
            if found.likelihood < enough * BLOCKS_A_CELL:
                return matrix, False
    return matrix, True


def _finely(pairs: Sequence[ScenePair], matrix: Matrix3, fields: VisibleFields, models: Sequence[Model]) -> Refined:
    model: Model = "similarity"
    for level in FINE:
        matches = block_matches(pairs, matrix, level, fields)
        if len(matches.centres) < MIN_BLOCKS:
            continue
        best = select_model(matches, tuple(m for m in PLANE_MODELS if m in models))
        matrix = _improved(matrix, matches, best.matrix, size_of(pairs[0].visible))
        # the coarse levels have given the matrix an affine part already
        model = max(model, best.model, key=MODELS.index)
    return Refined(matrix, _affine(models, model), match_quality(pairs, matrix, fields))


def _affine(models: Sequence[Model], model: Model) -> Model:
    """The model, or that of the coarse levels where it is freer."""
    return "affine" if "affine" in models and model in ("shift", "similarity") else model


def _improved(matrix: Matrix3, matches: Matches, change: Matrix3, visible_size: Size) -> Matrix3:
    better = scaling(matches.size, visible_size) @ change @ scaling(visible_size, matches.size) @ matrix
    return np.asarray(better / better[2, 2], np.float64)
