"""The score table of the HTML report: means with spread, best and second best marked, published values below them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusepipe.evaluation.metrics.registry import METRICS, SEQUENCE_METRICS
from fusepipe.evaluation.report.results import Comparison, MethodResult, SetResult
from fusepipe.evaluation.report.text_tables import ARROWS, BEST, RULE_WINS, SECOND, mark, printed_only
from fusepipe.evaluation.scores import shown

_MARKS = {
    BEST: ("best", "best"),
    SECOND: ("second", "second best"),
    RULE_WINS: ("rulewins", "a trivial rule beats the best method"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """``mark`` is a class of the style sheet and ``meaning`` the same in words; both empty for most cells."""

    text: str
    spread: str = ""
    mark: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """``kind``: empty for a method, ``printed`` for its published values, ``absent`` for one that did not run."""

    heading: str
    cells: Sequence[Cell]
    kind: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """``kind``: empty for the methods, ``rules`` for the trivial rules, ``bound`` for what limits a metric."""

    kind: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """One row a method; the headings are those of the columns right of the method's name."""

    set_name: str
    headings: Sequence[str]
    groups: Sequence[Group]


def score_table(result: SetResult, comparison: Comparison) -> ScoreTable:
    """The table of one set."""
    temporal = list(dict.fromkeys(name for method in result.methods for name in method.temporal))
    timed = any(method.ms_per_pair for method in result.methods)
    headings = [f"{name}\N{NO-BREAK SPACE}{ARROWS[METRICS[name].direction]}" for name in comparison.columns]
    headings += [f"{name}\N{NO-BREAK SPACE}{ARROWS[SEQUENCE_METRICS[name].direction]}" for name in temporal]
    headings += ["ms/pair"] if timed else []
    methods: dict[bool, list[Row]] = {False: [], True: []}
    for method in result.methods:
        cells = _cells(result, comparison, method, temporal, timed)
        methods[method.reference] += [
            Row(method.name, cells, engine=method.engine),
            *_printed(result, comparison, method.name, len(headings)),
        ]
    for name in printed_only(result, comparison):
        methods[False] += [Row(name, (), "absent"), *_printed(result, comparison, name, len(headings))]
    bounds = [result.bound(name) for name in comparison.columns]
    limits = (
        [Row("bound", _filled(map(_optional, bounds), len(headings)))] if any(b is not None for b in bounds) else []
    )
    groups = [Group("", methods[False]), Group("rules", methods[True]), Group("bound", limits)]
    return ScoreTable(result.name, headings, [group for group in groups if group.rows])


def _cells(
    result: SetResult, comparison: Comparison, method: MethodResult, temporal: Sequence[str], timed: bool
) -> list[Cell]:
    cells = []
    for name, found in method.summaries(comparison.columns).items():
        if found is None:
            cells.append(Cell("–"))
        else:
            spread = shown(found.spread) if found.count > 1 else ""
            cells.append(Cell(shown(found.mean), spread, *_MARKS.get(mark(result, method, name), ("", ""))))
    cells += [Cell(shown(method.temporal.get(name))) for name in temporal]
    if timed:
        time = method.time
        cells.append(Cell("–") if time is None else Cell(shown(time.mean, 3), shown(time.spread, 3)))
    return cells


def _printed(result: SetResult, comparison: Comparison, method: str, columns: int) -> list[Row]:
    """The row of the published values of a method, if it has any."""
    values = [comparison.printed.get((result.name, method, name)) for name in comparison.columns]
    if all(value is None for value in values):
        return []
    texts = ("" if value is None else f"{value:.2f}" for value in values)
    return [Row("as printed", _filled(texts, columns), "printed")]


def _filled(texts: Iterable[str], columns: int) -> list[Cell]:
    cells = [Cell(text) for text in texts]
    return cells + [Cell("")] * (columns - len(cells))


def _optional(value: float | None) -> str:
    return "" if value is None else shown(value)
