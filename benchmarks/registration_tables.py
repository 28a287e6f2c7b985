"""The tables of ``benchmarks/study_registration``, from the rows that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
Numbers = NDArray[np.float64]

OF_PX = 640  # errors are compared in pixels of an image that wide
RIGHT_PX = 10.0  # of OF_PX, mean over centre and corners
GROUPS = 5


def report(rows: Sequence[Row]) -> str:
    """Markdown: of pairs with a known map what was accepted and how the bound compares, of the others what was."""
    known = [row for row in rows if "errors_px" in row]
    mismatched = [row for row in rows if "errors_px" not in row]
    parts = []
    if known:
        parts.append(_acceptance(known))
        bounded = [row for row in known if not row["refusal"] and row["error_bound"] is not None]
        if len(bounded) > GROUPS:
            parts += [_bounds(bounded), *(_calibration(bounded, place) for place in ("centre", "corners"))]
    if mismatched:
        parts.append(_mismatched(mismatched))
    return "\n".join(parts)


def rank_correlation(one: Numbers, other: Numbers) -> float:
    """Spearman's, of two N arrays without many equal values; -1 to 1."""
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def bounds_and_errors(rows: Sequence[Row], place: str) -> tuple[Numbers, Numbers]:
    """N bounds and N true errors in the ``centre`` or at the worst of the ``corners``, pixels of ``OF_PX``."""
    bound = [row["error_bound"][f"{place}_px"] / row["visible_width"] * OF_PX for row in rows]
    error = [
        (row["errors_px"][0] if place == "centre" else max(row["errors_px"][1:])) / row["visible_width"] * OF_PX
        for row in rows
    ]
    return np.array(bound), np.array(error)


def _mean_error(row: Row) -> float:
    return float(np.mean(row["errors_px"])) / float(row["visible_width"]) * OF_PX


def _acceptance(rows: Sequence[Row]) -> str:
    accepted = [row for row in rows if not row["refusal"]]
    wrong = [row for row in accepted if _mean_error(row) >= RIGHT_PX]
    missed = [row for row in rows if row["refusal"] and _mean_error(row) < RIGHT_PX]
    under = [sum(_mean_error(row) < px for row in accepted) for px in (5, 10)]
    lines = [
        "| pairs with a known map | accepted | under 5 px | under 10 px | right but refused | CPU time a pair |",
        "|---|---|---|---|---|---|",
        f"| {len(rows)} | {len(accepted)} | {under[0]} | {under[1]} | {len(missed)} | "
        f"{np.mean([row['cpu_s'] for row in rows]):.1f} s |",
        "",
        *(f"- accepted, off by {_mean_error(row):.1f} px of {OF_PX}: {row['name']}" for row in wrong),
    ]
    return "\n".join(lines) + "\n"


def _bounds(rows: Sequence[Row]) -> str:
    lines = ["| | below the bound | median bound | median error | rank correlation |", "|---|---|---|---|---|"]
    for place in ("centre", "corners"):
        bound, error = bounds_and_errors(rows, place)
        below = int((error <= bound).sum())
        lines.append(
            f"| {place} | {below} of {len(rows)} ({below / len(rows):.0%}) | {np.median(bound):.1f} px | "
            f"{np.median(error):.1f} px | {rank_correlation(bound, error):.2f} |"
        )
    return "\n".join(lines) + "\n"


def _calibration(rows: Sequence[Row], place: str) -> str:
    """By bound, in groups of equal size: the errors of each."""
    bound, error = bounds_and_errors(rows, place)
    lines = [f"| {place}: bound | median error | 90 % of the errors below | below the bound |", "|---|---|---|---|"]
    for group in np.array_split(np.argsort(bound), GROUPS):
        of, found = bound[group], error[group]
        lines.append(
            f"| {of.min():.1f} to {of.max():.1f} px | {np.median(found):.1f} px | {np.quantile(found, 0.9):.1f} px | "
            f"{(found <= of).mean():.0%} |"
        )
    return "\n".join(lines) + "\n"


def _mismatched(rows: Sequence[Row]) -> str:
    accepted = [row for row in rows if not row["refusal"]]
    lines = [
        f"{len(accepted)} of {len(rows)} pairs that do not belong together are accepted; highest evidence "
        f"{max(row['evidence'] for row in rows):.1f}, at most {max(row['agreeing'] for row in rows)} agreeing blocks.",
        *(f"- accepted: {row['name']}" for row in accepted),
    ]
    return "\n".join(lines) + "\n"
