"""Mean ranks as tables of a terminal, of the HTML page and of JSON; ties are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from fusepipe.evaluation.ranks import MethodRanks, over_sets, places
from fusepipe.evaluation.report.results import Comparison, SetResult
from fusepipe.evaluation.report.score_table import Cell, Group, Row, ScoreTable

TIE = "="


def rank_tables(result: SetResult, comparison: Comparison, width: int | None) -> Iterator[Table]:
    """One line a method, best first; columns that do not fit into ``width`` go to further tables."""
    entries = comparison.ranking(result)
    if not entries:
        return
    names = list(entries[0].ranks)
    labels = max(len(entry.method) for entry in entries) + 22
    fitting = 99 if width is None else max(1, (width - labels) // 12)
    for first in range(0, len(names), fitting):
        columns = names[first : first + fitting]
        table = Table(title=None if first else f"{result.name}: mean rank", title_justify="left")
        _add_columns(table, ["method", "", "mean rank", *columns])
        for entry, place in _placed(entries):
            table.add_row(entry.method, place, f"{entry.mean:.2f}", *(_rank(entry, name) for name in columns))
        yield table


def overall_table(comparison: Comparison) -> Table | None:
    """The mean rank over all sets; ``None`` with fewer than two."""
    means = overall(comparison)
    if not means:
        return None
    table = Table(title=f"mean rank over {len(comparison.sets)} sets", title_justify="left")
    _add_columns(table, ["method", "", "mean rank"])
    for method, place in _shared(means).items():
        table.add_row(method, place, f"{means[method]:.2f}")
    return table


def tie_notes(result: SetResult, comparison: Comparison) -> list[str]:
    """One line for each group of methods that are tied in a metric."""
    entries, notes = comparison.ranking(result), []
    for name in entries[0].ranks if entries else ():
        groups = {frozenset((entry.method, *entry.tied[name])) for entry in entries if name in entry.tied}
        order = {entry.method: index for index, entry in enumerate(entries)}
        notes += [f"{name}: tied: {', '.join(sorted(group, key=order.__getitem__))}" for group in groups]
    return notes


def rank_page_table(result: SetResult, comparison: Comparison) -> ScoreTable | None:
    """The table of the HTML page; ``None`` where nothing can be ranked."""
    entries = comparison.ranking(result)
    if not entries:
        return None
    names = list(entries[0].ranks)
    rows = [
        Row(entry.method, [Cell(place), Cell(f"{entry.mean:.2f}"), *(Cell(_rank(entry, name)) for name in names)])
        for entry, place in _placed(entries)
    ]
    return ScoreTable(f"{result.name}, mean rank", ["place", "mean rank", *names], [Group("", rows)])


def overall_page_table(comparison: Comparison) -> ScoreTable | None:
    """The mean rank over all sets, for the HTML page; ``None`` with fewer than two sets."""
    means = overall(comparison)
    if not means:
        return None
    rows = [Row(name, [Cell(place), Cell(f"{means[name]:.2f}")]) for name, place in _shared(means).items()]
    return ScoreTable("all sets, mean rank", ["place", "mean rank"], [Group("", rows)])


def overall(comparison: Comparison) -> dict[str, float]:
    """The mean rank over all sets, best first; empty with fewer than two sets."""
    rankings = [comparison.ranking(result) for result in comparison.sets]
    return over_sets(rankings) if len(rankings) > 1 else {}


def ranking_json(entries: Sequence[MethodRanks]) -> list[dict[str, Any]]:
    """Place, mean rank, rank in each metric and tied methods, best first."""
    where = places([(entry.method, entry.mean) for entry in entries])
    return [
        {
            "method": entry.method,
            "place": where[entry.method],
            "mean_rank": entry.mean,
            "ranks": dict(entry.ranks),
            "tied": {name: list(others) for name, others in entry.tied.items()},
        }
        for entry in entries
    ]


def _add_columns(table: Table, headings: Sequence[str]) -> None:
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)


def _placed(entries: Sequence[MethodRanks]) -> list[tuple[MethodRanks, str]]:
    shown = _shared({entry.method: entry.mean for entry in entries})
    return [(entry, shown[entry.method]) for entry in entries]


def _shared(means: dict[str, float]) -> dict[str, str]:
    """The place of each method as text, marked where it is shared."""
    where = places(list(means.items()))
    counts = list(where.values())
    return {name: f"{place}{TIE if counts.count(place) > 1 else ' '}" for name, place in where.items()}


def _rank(entry: MethodRanks, name: str) -> str:
    return f"{entry.ranks[name]:g}{TIE if name in entry.tied else ' '}"
