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
PLOT_PX = 330
PLOT_RANGE = (0.2, 100.0)


def report(rows: Sequence[Row]) -> str:
    """Markdown: of pairs with a known map what was accepted and how the bound compares, of the others what was."""
    narrow = [row for row in rows if "ratio" in row]
    known = [row for row in rows if "errors_px" in row and "ratio" not in row]
    mismatched = [row for row in rows if "errors_px" not in row]
    parts = []
    if known:
        parts.append(_acceptance(known))
        bounded = [row for row in known if not row["refusal"] and row["error_bound"] is not None]
        if len(bounded) > GROUPS:
            parts += [_bounds(bounded), *(_calibration(bounded, place) for place in ("centre", "corners"))]
    if narrow:
        parts.append(_narrow(narrow))
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


def _narrow(rows: Sequence[Row]) -> str:
    """By the width of the part: what was found, refused and wrong."""
    lines = ["| width of the visible one | found | refused | wrong |", "|---|---|---|---|"]
    wrong = []
    for ratio in sorted({float(row["ratio"]) for row in rows}):
        of = [row for row in rows if row["ratio"] == ratio]
        accepted = [row for row in of if not row["refusal"]]
        found = sorted(_mean_error(row) for row in accepted if _mean_error(row) < RIGHT_PX)
        wrong += [row for row in accepted if _mean_error(row) >= RIGHT_PX]
        errors = f" ({found[0]:.1f} to {found[-1]:.1f} px of {OF_PX})" if found else ""
        lines.append(
            f"| {ratio:.2f} | {len(found)} of {len(of)}{errors} | {len(of) - len(accepted)} | "
            f"{len(accepted) - len(found)} |"
        )
    lines += ["", *(f"- accepted, off by {_mean_error(row):.1f} px of {OF_PX}: {row['name']}" for row in wrong)]
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row]) -> str:
    """An SVG image: the true error of each accepted pair over its bound, in the centre and at the corners.

    Both axes are logarithmic, in pixels of an image ``OF_PX`` wide; on the line, error and bound are equal.
    """
    bounded = [row for row in rows if "errors_px" in row and not row["refusal"] and row["error_bound"] is not None]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * PLOT_PX + 150} {PLOT_PX + 80}" '
        'font-family="sans-serif" font-size="13" fill="#444">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for place, left in (("centre", 60), ("corners", PLOT_PX + 120)):
        parts += _scatter(*bounds_and_errors(bounded, place), place, left)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scatter(bound: Numbers, error: Numbers, place: str, left: int) -> list[str]:
    top, bottom = 30, 30 + PLOT_PX

    def at(value: float) -> float:
        low, high = np.log10(PLOT_RANGE)
        return float((np.log10(np.clip(value, *PLOT_RANGE)) - low) / (high - low) * PLOT_PX)

    parts = []
    for tick in (0.3, 1, 3, 10, 30, 100):
        x, y = left + at(tick), bottom - at(tick)
        parts += [
            f'<path d="M{x:.1f} {top}V{bottom}M{left} {y:.1f}H{left + PLOT_PX}" stroke="#e4e4e4"/>',
            f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    parts.append(f'<path d="M{left} {bottom}L{left + PLOT_PX} {top}" stroke="#888" stroke-dasharray="5 4"/>')
    for one, other in zip(bound, error, strict=True):
        colour = "#1f5fa8" if other <= one else "#c2410c"
        parts.append(
            f'<circle cx="{left + at(one):.1f}" cy="{bottom - at(other):.1f}" r="3.2" fill="{colour}" '
            'fill-opacity="0.6"/>'
        )
    below = (error <= bound).mean()
    parts += [
        f'<text x="{left + PLOT_PX / 2}" y="{bottom + 38}" text-anchor="middle">printed bound, px of {OF_PX}</text>',
        f'<text x="{left}" y="18">{place}: {below:.0%} of {len(bound)} errors below the bound</text>',
    ]
    turned = f'transform="rotate(-90 {left - 40} {(top + bottom) / 2})"'
    parts.append(
        f'<text x="{left - 40}" y="{(top + bottom) / 2}" text-anchor="middle" {turned}>true error, px of {OF_PX}</text>'
    )
    return parts


def _mismatched(rows: Sequence[Row]) -> str:
    accepted = [row for row in rows if not row["refusal"]]
    lines = [
        f"{len(accepted)} of {len(rows)} pairs that do not belong together are accepted; highest evidence "
        f"{max(row['evidence'] for row in rows):.1f}, at most {max(row['agreeing'] for row in rows)} agreeing blocks.",
        *(f"- accepted: {row['name']}" for row in accepted),
    ]
    return "\n".join(lines) + "\n"
