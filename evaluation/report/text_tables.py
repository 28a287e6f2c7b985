"""Tables of results for a terminal, best and second best marked."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusepipe.evaluation.metrics.registry import METRICS, SEQUENCE_METRICS
from fusepipe.evaluation.report.results import Comparison, MethodResult, SetResult, mean_of
from fusepipe.evaluation.scores import beats, shown

ARROWS = {"higher": "↑", "lower": "↓", "bound": ""}
BEST, SECOND, RULE_WINS = "*", "+", "°"
LEGEND = f"{BEST} best, {SECOND} second best of the methods; {RULE_WINS} a trivial rule is better than the best of them"


def text(table: Table, width: int | None) -> str:
    """A table as text of a terminal; ``width`` is in columns, ``None`` where nothing limits it."""
    console = Console(width=width or 240, no_color=width is None, force_terminal=False if width is None else None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def evaluation_table(result: SetResult, comparison: Comparison) -> Table:
    """One line a metric: mean, spread and extremes of one method."""
    (method,) = result.methods
    table = Table(title=comparison.title, title_justify="left", caption_justify="left")
    table.add_column("metric", no_wrap=True)
    for heading in ("mean", "spread", "min", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("definition")
    for name, found in method.summaries(comparison.metrics).items():
        row = METRICS[name]
        values = [None] * 4 if found is None else [found.mean, found.spread, found.min, found.max]
        what = f"{row.definition} ({row.variant})" if row.variant else row.definition
        table.add_row(name, *(shown(value) for value in values), ARROWS[row.direction], what)
    return table


def comparison_tables(result: SetResult, comparison: Comparison, width: int | None) -> Iterator[Table]:
    """One line a method: the mean of each metric and the time a pair; the trivial rules apart below.

    Columns that do not fit into ``width`` go to further tables.
    """
    temporal = list(dict.fromkeys(name for method in result.methods for name in method.temporal))
    labels = max([15, *(len(method.name) for method in result.methods)]) + 4
    fitting = 99 if width is None else max(1, (width - labels) // 11 - 1)
    for first in range(0, len(comparison.columns), fitting):
        columns = comparison.columns[first : first + fitting]
        last = first + fitting >= len(comparison.columns)
        yield _comparison_table(result, comparison, columns, temporal if last else [], "" if first else _title(result))


def _title(result: SetResult) -> str:
    kind = "sequence of" if result.sequence else "set of"
    return f"{result.name}: {kind} {len(result.images)} pairs"


def _comparison_table(
    result: SetResult, comparison: Comparison, columns: list[str], temporal: list[str], title: str
) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column("method", no_wrap=True)
    for name in columns:
        table.add_column(f"{name} {ARROWS[METRICS[name].direction]}", justify="right", no_wrap=True)
    for name in temporal:
        table.add_column(f"{name} {ARROWS[SEQUENCE_METRICS[name].direction]}", justify="right", no_wrap=True)
    table.add_column("ms/pair", justify="right", no_wrap=True)
    plain = [method for method in result.methods if not method.reference]
    rules = [method for method in result.methods if method.reference]
    for group in (plain, rules):
        for method in group:
            cells = [cell(result, method, name) for name in columns]
            extra = [shown(method.temporal.get(name)) for name in temporal]
            time = method.time
            table.add_row(method.name, *cells, *extra, shown(time.mean if time else None, 3))
            printed = _printed_cells(result, comparison, method.name, columns)
            if any(printed):
                table.add_row("  as printed", *printed, style="dim")
        table.add_section()
    for method_name in printed_only(result, comparison):
        table.add_row(f"{method_name}, not run", *[""] * (len(columns) + len(temporal) + 1))
        table.add_row("  as printed", *_printed_cells(result, comparison, method_name, columns), style="dim")
    table.add_section()
    bounds = [result.bound(name) for name in columns]
    if any(bound is not None for bound in bounds):
        table.add_row("bound", *("" if b is None else f"{shown(b)} " for b in bounds), style="italic")
    return table


def _printed_cells(result: SetResult, comparison: Comparison, method: str, columns: list[str]) -> list[str]:
    """The published means of a method, as printed; empty where there are none."""
    values = (comparison.printed.get((result.name, method, name)) for name in columns)
    # the blank is in the position of a measured value's mark
    return ["" if value is None else f"{value:.2f} " for value in values]


def printed_only(result: SetResult, comparison: Comparison) -> list[str]:
    """Methods that have published values for this set but did not run here."""
    ran = {method.name for method in result.methods}
    return list(dict.fromkeys(m for s, m, _ in comparison.printed if s == result.name and m not in ran))


def mark(result: SetResult, method: MethodResult, name: str) -> str:
    """The mark of a cell: best, second best, or a trivial rule that is better than the best method."""
    best, second = result.leaders(name)
    if method.name in best:
        return BEST
    if method.name in second:
        return SECOND
    value = mean_of(method, name)
    ranked = result.ranked()
    tops = [top for top in (mean_of(m, name) for m in ranked) if top is not None]
    wins = value is not None and bool(tops) and all(beats(value, top, METRICS[name]) for top in tops)
    return RULE_WINS if method.reference and method not in ranked and wins else " "


def cell(result: SetResult, method: MethodResult, name: str) -> Text:
    """One mean with its mark; bold where it is best."""
    sign = mark(result, method, name)
    style = {BEST: "bold green", SECOND: "underline", RULE_WINS: "italic"}.get(sign, "")
    return Text.assemble((shown(mean_of(method, name)), style), sign)
