"""The tables that ``benchmarks/measure_network`` prints, from the values that it writes with ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fusepipe.evaluation.ranks import method_ranks

Rows = list[Sequence[str]]
Means = Mapping[str, Mapping[str, float]]
CELLS = 18


def ranked(means: Means, asked: Sequence[str], beside: Sequence[str]) -> dict[str, float]:
    """The mean rank of each network among the methods beside it, and of these in the first network's company."""
    others = {name: means[name] for name in beside}
    metrics = list(means[beside[0]])
    found = {entry.method: entry.mean for entry in method_ranks(others, metrics)}
    for name in reversed([name for name in asked if name not in others]):
        found |= {entry.method: entry.mean for entry in method_ranks({**others, name: means[name]}, metrics)}
    return found


def values(numbers: Mapping[str, float]) -> str:
    return " ".join(f"{value:.3f}".removeprefix("0") for value in numbers.values())


def ranks(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    by_set = {name: ranked(entry["means"], asked, beside) for name, entry in found.items()}
    names = list(dict.fromkeys((*beside, *asked)))
    rows: Rows = [["set: mean rank", *names]]
    rows += [[name, *(f"{own[n]:.2f}" for n in names)] for name, own in by_set.items()]
    rows.append(["average", *(f"{np.mean([own[n] for own in by_set.values()]):.2f}" for n in names)])
    best = {name: min(own[n] for n in beside) for name, own in by_set.items()}
    rows.append(["first on", *(str(sum(own[n] <= best[s] for s, own in by_set.items())) for n in names)])
    metrics = " ".join(found[next(iter(found))]["means"][asked[0]])
    scores: Rows = [[f"set: {metrics}, MI of the mean's", *asked]]
    for name, entry in found.items():
        means = entry["means"]
        shares = (100 * means[n]["MI"] / means["mean"]["MI"] for n in asked)
        cells = (f"{values(means[n])}, {share:.0f} %" for n, share in zip(asked, shares, strict=True))
        scores.append([name, *cells])
    return [rows, scores]


def tno(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    means = found["means"]
    own = ranked(means, asked, [name for name in means if name not in asked])
    rows: Rows = [["TNO, 42 pairs", "mean rank", " ".join(means[asked[0]])]]
    return [rows + [[name, f"{own[name]:.2f}", values(means[name])] for name in sorted(own, key=lambda n: own[n])]]


def paper(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    rows: Rows = [["the paper's table 1", f"cells of {CELLS} above its own method", "not above"]]
    return [rows + [[name, str(CELLS - len(low)), ", ".join(low)] for name, low in found["not_above"].items()]]


def sequences(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    stills = ("nato_camp", "tree", "duine")
    rows: Rows = [["over time", f"TR of {', '.join(stills)}", "excess", "forest TR", "smoke1 flowD/SD", "stairs"]]
    for name, own in found.items():
        ratios, excess = (values({s: own[s][m] for s in stills}) for m in ("TR", "excess"))
        flow = [f"{own[clip]['flowD_SD']:.4f}" for clip in ("smoke1", "stairs")]
        rows.append([name, ratios, excess, values({"TR": own["forest"]["TR"]}), *flow])
    return [rows]


def noise(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    clean = found["clean"]
    rows: Rows = [["lost, percent", "method", *clean[asked[0]]]]
    for what, lost in found["lost"].items():
        rows += [[what, name, *(f"{loss:.1f}" for loss in own.values())] for name, own in lost.items()]
    return [rows, [["26 validation pairs", " ".join(clean[asked[0]])], *([n, values(clean[n])] for n in clean)]]


def detection(found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> list[Rows]:
    rows: Rows = [["detector", "person AP50", "car AP50", "smoke1, colour", "smoke1, grey"]]
    for name, ap50 in found["ap50"].items():
        counts = [found[key].get(name) for key in ("recall", "recall_grey")]
        shown = [f"{count[0]} of {count[1]}" if count else "" for count in counts]
        rows.append([name, *(f"{ap50[kind]:.3f}" for kind in ("person", "car")), *shown])
    return [rows]


TABLES: dict[str, Callable[[Mapping[str, Any], Sequence[str], Sequence[str]], list[Rows]]] = {
    "ranks": ranks,
    "tno": tno,
    "paper": paper,
    "sequences": sequences,
    "noise": noise,
    "detection": detection,
}


def show(part: str, found: Mapping[str, Any], asked: Sequence[str], beside: Sequence[str]) -> None:
    """Prints the tables of one part in Markdown."""
    for head, *rows in TABLES[part](found, asked, beside):
        for line in (head, ["---"] * len(head), *rows):
            sys.stdout.write(f"| {' | '.join(line)} |\n")
        sys.stdout.write("\n")
    sys.stdout.flush()
