"""One HTML page that needs nothing else: tables, plots, pictures, difference maps and a wipe between methods.

Everything that comes from the user (names of files, methods, the command) is escaped. The page forbids
itself any network by its content security policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import zip_longest

from fusepipe.evaluation.metrics.table import METRICS, SEQUENCE_METRICS, Metric, SequenceMetric
from fusepipe.evaluation.report.html_tables import score_table
from fusepipe.evaluation.report.pictures import gallery
from fusepipe.evaluation.report.plots import metric_plots, temporal_plots
from fusepipe.evaluation.report.results import Comparison, SetResult

MAX_BYTES = 12_000_000  # a page that still goes by mail and opens on a phone
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
RULES = (
    "No single number ranks fusion methods: the rules mean, max and sum (infrared + visible minus the mean of both) "
    "fuse nothing and still win some metrics. They are in every table for that reason and carry ° where they beat "
    "the best method."
)

NO_RULES = "No single number ranks fusion methods; 'fusepipe compare' shows them beside rules that win some metrics."


@dataclass(frozen=True, slots=True)
class _Galleries:
    """The pictures of each set, and how many pairs found no room."""

    by_set: dict[str, str]
    left_out: int


def page(comparison: Comparison, max_bytes: int = MAX_BYTES) -> str:
    """The whole report as one HTML document of at most about ``max_bytes``: pictures are left out beyond."""
    texts = {result.name: _scores(result, comparison) for result in comparison.sets}
    head, foot = _head(comparison), _foot(comparison)
    room = max_bytes - sum(len(text.encode()) for text in (*texts.values(), head, foot)) - 20_000
    galleries = _galleries(comparison, room)
    sections = "".join(
        f'<section class="set" id="{_anchor(index)}"><h2>{escape(result.name)}</h2>{texts[result.name]}'
        f"{galleries.by_set.get(result.name, '')}</section>"
        for index, result in enumerate(comparison.sets)
    )
    wipe = _WIPE if any(galleries.by_set.values()) else ""
    left_out = ""
    if galleries.left_out:
        left_out = (
            f"<p>{galleries.left_out} further example pairs are not shown, to keep this file under "
            f"{max_bytes / 1e6:.0f} MB.</p>"
        )
    style, script = (
        files("fusepipe.evaluation.report").joinpath(f"report.{s}").read_text("utf-8") for s in ("css", "js")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(comparison.title)} – fusepipe</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{head}\n<main>{wipe}{sections}{left_out}{foot}</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _anchor(index: int) -> str:
    return f"set-{index}"


def _head(comparison: Comparison) -> str:
    pairs = sum(len(result.images) for result in comparison.sets)
    methods = list(dict.fromkeys(m.name for result in comparison.sets for m in result.methods if not m.reference))
    links = "".join(
        f'<a href="#{_anchor(index)}">{escape(result.name)}</a>' for index, result in enumerate(comparison.sets)
    )
    facts = [f"{pairs} {'pair' if pairs == 1 else 'pairs'}", f"{len(comparison.columns)} metrics"]
    facts.append(", ".join(methods) or "only trivial rules")
    return (
        f'<header><p class="brand">fusepipe</p><h1>{escape(comparison.title)}</h1>'
        f'<p class="facts">{escape(" · ".join(facts))}</p>'
        f'<nav aria-label="Sets"><a href="#look">look</a>{links}<a href="#about">how it was made</a></nav></header>'
    )


def _scores(result: SetResult, comparison: Comparison) -> str:
    kind = "frames of a sequence" if result.sequence else "pairs"
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    temporal = ""
    if result.sequence and (plots := temporal_plots(result)):
        temporal = f"<h3>Brightness over time</h3>{_TEMPORAL_HINT}{plots}"
    return (
        f"<p>{len(result.images)} {kind}. Mean ± standard deviation over them.</p>"
        f"{score_table(result, comparison)}"
        + (f"<ul class='notes'>{notes}</ul>" if notes else "")
        + "<h3>Mean and spread</h3>"
        + _SPREAD_HINT
        + metric_plots(result, comparison)
        + temporal
    )


def _galleries(comparison: Comparison, room: int) -> _Galleries:
    """As many example pairs as fit, the first of each set before the second of any."""
    shown: dict[str, str] = {}
    left_out = 0
    for rank, examples in enumerate(zip_longest(*(result.examples for result in comparison.sets))):
        for index, (result, example) in enumerate(zip(comparison.sets, examples, strict=True)):
            if example is None:
                continue
            text = gallery(result, example, f"{index}-{rank}") if room > 0 else ""
            size = len(text.encode())
            if not text or size > room:
                left_out += 1
                continue
            room -= size
            shown[result.name] = shown.get(result.name, "<h3>Pictures</h3>" + _PICTURES_HINT) + text
    return _Galleries(shown, left_out)


_SPREAD_HINT = (
    '<p class="hint">Large dot: mean; bar: ± one standard deviation; small dots: single images. Filled: best; ring in '
    "the same colour: second best; below the line: the trivial rules, an arrow where they lie far outside.</p>"
)
_TEMPORAL_HINT = (
    '<p class="hint">Mean grey level of each frame. <span class="stroke ir"></span> infrared, '
    '<span class="stroke vis"></span> visible, <span class="stroke fused"></span> fused. A fused line that jumps where '
    "neither source does is flicker.</p>"
)
_PICTURES_HINT = (
    '<p class="hint">Patch <span class="edge a"></span> lies where infrared stands out most, patch '
    '<span class="edge b"></span> where the visible image has most detail of its own; both are found from the '
    "sources alone.</p>"
)


def _foot(comparison: Comparison) -> str:
    rows: list[tuple[str, str, Metric | SequenceMetric]]
    rows = [(name, METRICS[name].variant or "all codes agree", METRICS[name]) for name in comparison.metrics]
    if any(method.temporal for result in comparison.sets for method in result.methods):
        rows += [(name, "sequences", row) for name, row in SEQUENCE_METRICS.items()]
    definitions = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(variant)}</td><td>{escape(row.direction)}</td>"
        f"<td>{escape(row.span)}</td><td>{escape(row.definition)}; {escape(row.source)}</td></tr>"
        for name, variant, row in rows
    )
    missing = "".join(f"<li><b>{escape(n)}</b>: {escape(why)}</li>" for n, why in comparison.unavailable.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    printed = f"<p>As printed: {escape(comparison.printed_source)}.</p>" if comparison.printed_source else ""
    rules = any(method.reference for result in comparison.sets for method in result.methods)
    return (
        '<section id="about"><h2>How it was made</h2>'
        f"<p>{escape(RULES if rules else NO_RULES)}</p>{printed}"
        + (f"<h3>Methods that did not run</h3><ul>{missing}</ul>" if missing else "")
        + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
        + f"<h3>Command</h3><pre tabindex='0'><code>{escape(comparison.command)}</code></pre><p>{escape(versions)}</p>"
        "<h3>Metrics</h3><div class='scroll' tabindex='0' role='region' aria-label='Definitions of the metrics'>"
        "<table class='definitions'><thead><tr><th scope='col'>metric</th><th scope='col'>variant</th>"
        "<th scope='col'>better</th><th scope='col'>range</th><th scope='col'>definition and source</th></tr></thead>"
        f"<tbody>{definitions}</tbody></table>"
        "</div></section>"
    )


_WIPE = re.sub(
    r"\n\s*",
    "",
    """
<section id="look"><h2>Look</h2>
<noscript><p>The wipe needs JavaScript; the pictures further down do not.</p></noscript>
<div id="wipe" hidden>
<div class="controls">
<label>Pair <select id="wipe-pair"></select></label>
<label>Left <select id="wipe-left"></select></label>
<label>Right <select id="wipe-right"></select></label>
</div>
<div class="viewer" id="wipe-viewer">
<div class="stage" id="wipe-stage">
<img id="wipe-under" alt=""><img id="wipe-over" alt=""><i id="wipe-edge"></i>
<span class="tag left" id="wipe-tag-left"></span><span class="tag right" id="wipe-tag-right"></span>
</div>
<label><span class="unseen">Wipe</span> <input id="wipe-range" type="range" min="0" max="100" value="50"></label>
</div>
<p class="hint">Drag across the picture, or move the slider with the arrow keys.</p>
</div></section>""",
)
