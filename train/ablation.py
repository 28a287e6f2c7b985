"""The ablation of Table 2: the full network and three variants without one part, with several seeds.

Every row has the same number of optimiser steps on the same crops. The row without attention has no stage for it;
fine-tuning gets those steps as well. Rows with the same extractor and reconstruction (full and without attention) share
stage 1, which would be identical.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from fusepipe.core.errors import UsageError
from fusepipe.core.files import write_text
from fusepipe.evaluation.image_sets import find_sets, read_luma, require_one_size
from fusepipe.evaluation.report.published import METRICS_OF_PAPER
from fusepipe.evaluation.scorer import Scorer, Triple
from fusepipe.evaluation.scores import metric_names, summarise
from fusepipe.train.configs.mfe import FusionStageConfig, MfeConfig, NetworkParts
from fusepipe.train.data.pairs import Pair
from fusepipe.train.session.mfe import WEIGHTS, FusionStage, MfeSession
from fusepipe.train.validation import fuse_pair
from fusepipe.train.weights import load_mfe

VARIANTS: Mapping[str, Mapping[str, bool]] = {
    "without D": {"dense": False},
    "without A": {"attention": False},
    "without S": {"skips": False},
    "full": {},
}
"""Rows of Table 2 in its order: the parts of the network that are switched off."""

SCORES = "scores.json"
_SCORES = TypeAdapter(dict[str, FiniteFloat])


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One row of the table: scores of its seeds, metric to values in the order of the seeds."""

    variant: str
    scores: Mapping[str, Sequence[float]]

    def mean(self, metric: str) -> float:
        """Over the seeds."""
        return mean(self.scores[metric])

    def spread(self, metric: str) -> float:
        """Sample standard deviation over the seeds; not a number for one seed."""
        values = self.scores[metric]
        return stdev(values) if len(values) > 1 else math.nan


def scored_pairs(folder: Path, only: frozenset[str] | None) -> list[Pair]:
    """The pairs of a test set with ``ir`` and ``vis`` (TNO's ``pairs``), limited to the names in ``only``."""
    (found,) = find_sets(folder, sequence=False)
    pairs = []
    for name in found.pairs.names:
        if only is not None and name not in only:
            continue
        infrared, visible = found.pairs.files[name]
        ir, vis = read_luma(infrared, "infrared"), read_luma(visible)
        require_one_size(name, infrared=ir, visible=vis)
        pairs.append(Pair(name, ir, vis))
    return pairs


def run_ablation(
    session: MfeSession,
    config: MfeConfig,
    photographs: Path,
    data: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    seeds: int = 3,
    jobs: int = 1,
) -> list[AblationRow] | None:
    """Trains and scores every row with every seed; ``None`` if the session was stopped.

    Completed runs are not repeated, so a stopped ablation continues. ``pairs`` are only scored, never trained on.
    Raises :class:`UsageError` where the configuration's network lacks a part.
    """
    if not (config.network.dense and config.network.attention and config.network.skips):
        raise UsageError(f"network: an ablation switches off one part at a time: leave all on ({config.network!r})")
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    stage1_done: set[Path] = set()
    for seed in range(seeds):
        for variant, switched in VARIANTS.items():
            parts = NetworkParts(**{**config.network.model_dump(), **switched})
            weights = _trained(session, _seeded(config, parts, seed), photographs, data, out, variant, stage1_done)
            if weights is None:
                return None
            found[variant].append(_scored(weights, pairs, jobs))
    return [
        AblationRow(variant, {m: [run[m] for run in runs] for m in METRICS_OF_PAPER}) for variant, runs in found.items()
    ]


def _seeded(config: MfeConfig, parts: NetworkParts, seed: int) -> MfeConfig:
    stages: dict[str, Any] = {
        name: getattr(config, name).model_copy(update={"seed": seed}) for name in ("stage1", "attention", "finetune")
    }
    if not parts.attention:
        steps = config.attention.steps + config.finetune.steps
        stages["finetune"] = stages["finetune"].model_copy(update={"steps": steps})
    return config.model_copy(update={**stages, "network": parts})


def _trained(
    session: MfeSession,
    config: MfeConfig,
    photographs: Path,
    data: Path,
    out: Path,
    variant: str,
    stage1_done: set[Path],
) -> Path | None:
    """The weights of one run; ``None`` if it was stopped. Completed folders of stage 1 are added to ``stage1_done``."""
    parts, seed = config.network, config.stage1.seed
    base = f"stage1-{'dense' if parts.dense else 'plain'}-{'skips' if parts.skips else 'noskips'}-{seed}"
    last = out / base
    finished = last in stage1_done or session.stage1(config.stage1, parts, photographs, last)["finished"]
    stage1_done.add(last)
    stages: list[tuple[FusionStage, FusionStageConfig]] = [("attention", config.attention)] if parts.attention else []
    stages.append(("finetune", config.finetune))
    for name, settings in stages:
        if not finished:
            return None
        folder = out / f"{variant.replace(' ', '-').lower()}-{seed}" / name
        finished = session.fusion(name, settings, parts, last / WEIGHTS, data, folder)["finished"]
        last = folder
    return last / WEIGHTS if finished else None


def _scored(weights: Path, pairs: Sequence[Pair], jobs: int) -> dict[str, float]:
    """Means of the paper's metrics in the paper's variants; cached in a file beside the weights."""
    cache = weights.with_name(SCORES)
    if (cached := _cached_scores(cache)) is not None:
        return cached
    network = load_mfe(weights)
    names = metric_names("paper", METRICS_OF_PAPER)
    triples = [Triple(p.name, p.infrared, p.visible, fuse_pair(network, p)) for p in pairs]
    with closing(Scorer(names, jobs)) as scorer:
        found = summarise(scorer.scores(triples), names)
    scores = {name: summary.mean for name, summary in found.items() if summary is not None}
    write_text(cache, json.dumps(scores, indent=2) + "\n")
    return scores


def _cached_scores(cache: Path) -> dict[str, float] | None:
    """The scores of an earlier run; ``None`` where there are none, or not all of them can be read."""
    try:
        scores = _SCORES.validate_json(cache.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return scores if scores.keys() == set(METRICS_OF_PAPER) else None


def wins(rows: Sequence[AblationRow]) -> dict[str, int]:
    """Number of metrics in which the full network's mean is above each other row's."""
    full = next(row for row in rows if row.variant == "full")
    return {
        row.variant: sum(full.mean(metric) > row.mean(metric) for metric in METRICS_OF_PAPER)
        for row in rows
        if row is not full
    }


def ablation_table(rows: Sequence[AblationRow], printed: Mapping[tuple[str, str, str], float]) -> str:
    """Mean ± standard deviation over the seeds, and below it the values the paper printed, as Markdown."""
    lines = ["| row | " + " | ".join(METRICS_OF_PAPER) + " |", "|---" * (len(METRICS_OF_PAPER) + 1) + "|"]
    for row in rows:
        cells = [f"{row.mean(m):.3f} ± {row.spread(m):.3f}" for m in METRICS_OF_PAPER]
        lines.append(f"| {row.variant} | " + " | ".join(cells) + " |")
        of_paper = [
            f"{printed[key]:.2f}" if (key := ("pairs", row.variant, m)) in printed else "" for m in METRICS_OF_PAPER
        ]
        lines.append("| as printed | " + " | ".join(of_paper) + " |")
    lines += [f"full is above {row} in {count} of {len(METRICS_OF_PAPER)} metrics" for row, count in wins(rows).items()]
    return "\n".join(lines)
