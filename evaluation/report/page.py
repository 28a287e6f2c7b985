"""The HTML page of a comparison: tables, plots, images, difference maps and a wipe between methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from fusepipe.core.files import utf8
from fusepipe.evaluation.metrics.registry import METRICS, SEQUENCE_METRICS, Metric, SequenceMetric
from fusepipe.evaluation.report import html
from fusepipe.evaluation.report.detection_tables import LEGEND as DETECTION_LEGEND
from fusepipe.evaluation.report.detection_tables import detection_page_table
from fusepipe.evaluation.report.gallery import gallery
from fusepipe.evaluation.report.plots import MetricPlot, SequencePlot, metric_plots, sequence_plots
from fusepipe.evaluation.report.rank_tables import overall_page_table, rank_page_table
from fusepipe.evaluation.report.results import Comparison, SetResult
from fusepipe.evaluation.report.score_table import ScoreTable, score_table

MAX_BYTES = 12_000_000  # a page that still goes by mail and opens on a phone
VIEWER_BYTES = 5_000  # of the parts that only a page with images has
RULES = (
    "No single number ranks fusion methods: the rules mean, max and sum (infrared + visible minus the mean of both) "
    "fuse nothing and still win some metrics. They are in every table for that reason and are marked ° where they beat "
    "the best method."
)
NO_RULES = "No single number ranks fusion methods; 'fusepipe compare' shows them next to rules that win some metrics."


@dataclass(frozen=True, slots=True)
class _Section:
    """One set of the page, without its images."""

    anchor: str
    result: SetResult
    table: ScoreTable
    ranks: ScoreTable | None
    detection: ScoreTable | None
    metric_plots: Sequence[MetricPlot]
    sequence_plots: Sequence[SequencePlot]


@dataclass(frozen=True, slots=True)
class _Galleries:
    """The markup of the images of each set, and how many pairs were omitted."""

    by_set: dict[str, str]
    left_out: int


def comparison_page(comparison: Comparison, max_bytes: int = MAX_BYTES) -> str:
    """The whole report as one HTML document of at most about ``max_bytes``: further images are omitted."""
    sections = [
        _Section(
            f"set-{index}",
            result,
            score_table(result, comparison),
            rank_page_table(result, comparison),
            detection_page_table(result.name, result.detection),
            metric_plots(result, comparison),
            sequence_plots(result) if result.sequence else (),
        )
        for index, result in enumerate(comparison.sets)
    ]
    text = _rendered(comparison, sections, _Galleries({}, 0), max_bytes)
    galleries = _galleries(comparison, max_bytes - len(utf8(text)) - VIEWER_BYTES)
    return _rendered(comparison, sections, galleries, max_bytes)


def _rendered(comparison: Comparison, sections: Sequence[_Section], galleries: _Galleries, max_bytes: int) -> str:
    pairs = sum(len(result.images) for result in comparison.sets)
    methods = list(dict.fromkeys(m.name for result in comparison.sets for m in result.methods if not m.reference))
    rules = any(method.reference for result in comparison.sets for method in result.methods)
    return html.render(
        "comparison.html",
        title=comparison.title,
        facts=[
            f"{pairs} {'pair' if pairs == 1 else 'pairs'}",
            f"{len(comparison.columns)} metrics",
            ", ".join(methods) or "only trivial rules",
        ],
        comparison=comparison,
        sections=sections,
        overall=overall_page_table(comparison),
        detection_overall=detection_page_table("all sets", comparison.detection_over_sets),
        detection_legend=DETECTION_LEGEND,
        galleries=galleries.by_set,
        left_out=galleries.left_out,
        max_megabytes=f"{max_bytes / 1e6:.0f}",
        about=RULES if rules else NO_RULES,
        versions=", ".join(f"{name} {version}" for name, version in comparison.versions.items()),
        definitions=_definitions(comparison),
        script=html.packaged("report.js"),
    )


def _galleries(comparison: Comparison, room: int) -> _Galleries:
    """As many example pairs as fit, the first of each set before the second of any."""
    shown: dict[str, str] = {}
    left_out = 0
    for rank, examples in enumerate(zip_longest(*(result.examples for result in comparison.sets))):
        for index, (result, example) in enumerate(zip(comparison.sets, examples, strict=True)):
            if example is None:
                continue
            text = ""
            if room > 0:
                text = html.fragment("gallery.html", gallery=gallery(result, example, f"{index}-{rank}"))
            size = len(utf8(text))
            if not text or size > room:
                left_out += 1
                continue
            room -= size
            shown[result.name] = shown[result.name] + text if result.name in shown else text
    return _Galleries(shown, left_out)


def _definitions(comparison: Comparison) -> list[tuple[str, str, Metric | SequenceMetric]]:
    """(name, variant, metric) of each metric of the page."""
    rows: list[tuple[str, str, Metric | SequenceMetric]]
    rows = [(name, METRICS[name].variant or "all codes agree", METRICS[name]) for name in comparison.metrics]
    if any(method.temporal for result in comparison.sets for method in result.methods):
        rows += [(name, "sequences", metric) for name, metric in SEQUENCE_METRICS.items()]
    return rows
