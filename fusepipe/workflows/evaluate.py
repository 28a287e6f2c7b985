"""``fusepipe evaluate``: scores existing fused images; infrared, visible and fused images are paired by stem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from fusepipe.core.provenance import versions
from fusepipe.evaluation.image_sets import Matched, evenly_spaced, match, read_luma, require_one_size
from fusepipe.evaluation.report.results import Comparison, Example, MethodResult, SetResult, missing_values
from fusepipe.evaluation.scorer import Scorer, Triple
from fusepipe.evaluation.scores import metric_names
from fusepipe.workflows.infrared_lumas import InfraredLumas

EXAMPLES = 6  # example pairs in a report with images


def evaluate(
    infrared: Path,
    visible: Path,
    fused: Path,
    *,
    variant: str = "paper",
    metrics: Sequence[str] | None = None,
    jobs: int = 1,
    examples: int = 0,
    infrared_keys: Mapping[str, Any] | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """The metrics of every image that all three folders have.

    Infrared images of more than 8 bits are mapped as a run does, with ``infrared_keys`` (``agc``, ``range``).
    ``step`` is called with the number of images done. ``examples`` is the number of pairs kept as images.
    Raises :class:`UsageError` for an unknown metric or variant, :class:`SourceError` for images that
    cannot be used: unreadable, 16-bit visible or fused ones, or of different sizes within a triple.
    """
    names = metric_names(variant, metrics)
    matched = match(infrared=infrared, visible=visible, fused=fused)
    label = fused.resolve().name or "fused"
    result = SetResult(infrared.resolve().parent.name or "images", matched.names, notes=matched.notes())
    method = MethodResult(label, engine="read from files")
    result.methods.append(method)
    lumas = InfraredLumas([files[0] for files in matched.files.values()], infrared_keys or {}, keep=False)
    keep = set(evenly_spaced(len(matched.names), examples))

    def triples() -> Iterator[Triple]:
        for index, triple in enumerate(_read(matched, lumas)):
            if index in keep:
                result.examples.append(Example(triple.name, triple.ir, triple.vis, {label: triple.fused}))
            yield triple

    with closing(Scorer(names, min(jobs, len(matched.names)))) as scorer:
        for row in scorer.scores(triples()):
            method.rows.append(row)
            step(len(method.rows), len(matched.names))
    result.notes += lumas.notes
    comparison = Comparison(f"{label}: {len(matched.names)} fused images", names, variant, [result])
    comparison.notes += missing_values(comparison)
    comparison.versions = versions()
    return comparison


def _read(matched: Matched, lumas: InfraredLumas) -> Iterator[Triple]:
    for index, (name, (_, vis_file, fused_file)) in enumerate(matched.files.items()):
        ir, vis, fused = lumas.read(index), read_luma(vis_file), read_luma(fused_file)
        require_one_size(name, infrared=ir, visible=vis, fused=fused)
        yield Triple(name, ir, vis, fused)
