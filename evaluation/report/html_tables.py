"""The tables of the HTML report: means with spread, best and second best marked, published values beside them."""

from __future__ import annotations

from html import escape

from fusepipe.evaluation.metrics.table import METRICS, SEQUENCE_METRICS
from fusepipe.evaluation.report.results import Comparison, MethodResult, SetResult
from fusepipe.evaluation.report.tables import ARROWS, BEST, RULE_WINS, SECOND, mark, printed_only
from fusepipe.evaluation.scores import shown

_CLASSES = {BEST: "best", SECOND: "second", RULE_WINS: "rulewins"}
_SAID = {BEST: "best", SECOND: "second best", RULE_WINS: "a trivial rule beats the best method"}


def score_table(result: SetResult, comparison: Comparison) -> str:
    """One row a method; the trivial rules in a body of their own."""
    temporal = list(dict.fromkeys(name for method in result.methods for name in method.temporal))
    timed = any(method.ms_per_pair for method in result.methods)
    heads = [f'<th scope="col">{escape(n)}&nbsp;{ARROWS[METRICS[n].direction]}</th>' for n in comparison.columns]
    heads += [f'<th scope="col">{escape(n)}&nbsp;{ARROWS[SEQUENCE_METRICS[n].direction]}</th>' for n in temporal]
    heads += ['<th scope="col">ms/pair</th>'] if timed else []
    width = len(heads)
    bodies = []
    for rules in (False, True):
        rows = [
            _row(result, comparison, method, temporal, timed) for method in result.methods if method.reference is rules
        ]
        if not rules:
            rows += [
                f'<tr class="absent"><th scope="row">{escape(name)}</th><td colspan="{width}">not run here</td></tr>'
                + _printed_row(result, comparison, name, width)
                for name in printed_only(result, comparison)
            ]
        if rows:
            bodies.append(f"<tbody{' class=rules' if rules else ''}>{''.join(rows)}</tbody>")
    bounds = [result.bound(name) for name in comparison.columns]
    if any(bound is not None for bound in bounds):
        cells = "".join(f"<td>{'' if bound is None else shown(bound)}</td>" for bound in bounds)
        cells += "<td></td>" * (width - len(bounds))
        bodies.append(f'<tbody class="bound"><tr><th scope="row">bound</th>{cells}</tr></tbody>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Scores on {escape(result.name)}">'
        f'<table><thead><tr><th scope="col">method</th>{"".join(heads)}</tr></thead>{"".join(bodies)}</table></div>'
    )


def _row(result: SetResult, comparison: Comparison, method: MethodResult, temporal: list[str], timed: bool) -> str:
    cells = []
    for name, found in method.summaries(comparison.columns).items():
        sign = mark(result, method, name)
        kind = f' class="{_CLASSES[sign]}" title="{_SAID[sign]}"' if sign in _CLASSES else ""
        said = f'<span class="unseen"> ({_SAID[sign]})</span>' if sign in _SAID else ""
        if found is None:
            cells.append("<td>–</td>")
        else:
            many = f"<small>±{shown(found.spread)}</small>" if found.count > 1 else ""
            cells.append(f"<td{kind}><span>{shown(found.mean)}</span>{said}{many}</td>")
    cells += [f"<td>{shown(method.temporal.get(name))}</td>" for name in temporal]
    if timed:
        time = method.time
        cells.append(
            "<td>–</td>" if time is None else f"<td>{shown(time.mean, 3)}<small>±{shown(time.spread, 3)}</small></td>"
        )
    engine = f"<small>{escape(method.engine)}</small>" if method.engine else ""
    row = f'<tr><th scope="row">{escape(method.name)}{engine}</th>{"".join(cells)}</tr>'
    return row + _printed_row(result, comparison, method.name, len(cells))


def _printed_row(result: SetResult, comparison: Comparison, method: str, width: int) -> str:
    values = [comparison.printed.get((result.name, method, name)) for name in comparison.columns]
    if all(value is None for value in values):
        return ""
    cells = "".join(f"<td>{'' if value is None else f'{value:.2f}'}</td>" for value in values)
    cells += "<td></td>" * (width - len(values))
    return f'<tr class="printed"><th scope="row">as printed</th>{cells}</tr>'
