"""Figures of ``fusepipe bench`` beside earlier ones: ratios to another measurement, and one line a version kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import UsageError

Document = dict[str, Any]
"""A measurement as :meth:`BenchReport.as_json` gives it."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure now and before, and the quotient now / before."""

    size: str
    figure: str
    now: float
    before: float

    @property
    def ratio(self) -> float:
        return self.now / self.before

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"size": self.size, "figure": self.figure, "now": self.now, "before": self.before, "ratio": self.ratio}


def size_text(document: Document) -> str:
    """``640x480,320x240``: the visible and the infrared size of a measurement."""
    sizes = (document["clips"]["visible_size"], document["clips"]["infrared_size"])
    return ",".join(f"{width}x{height}" for width, height in sizes)


def read_documents(path: Path) -> list[Document]:
    """The measurements of a file that ``--json`` wrote. Raises :class:`UsageError` where it has none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        documents: list[Document] = content.get("sizes", [content])
        for document in documents:
            list(_figures(document))
            size_text(document)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: has no measurement of fusepipe bench; write one with 'fusepipe bench --json > {path.name}'"
        ) from error
    return documents


def ratios(now: Sequence[Document], before: Sequence[Document]) -> list[Ratio]:
    """The figures that both have, by size and model."""
    earlier = {(size_text(document), document["engine"]["model"]): dict(_figures(document)) for document in before}
    found = []
    for document in now:
        known = earlier.get((size_text(document), document["engine"]["model"]), {})
        found += [
            Ratio(size_text(document), name, value, known[name])
            for name, value in _figures(document)
            if known.get(name, 0.0) > 0
        ]
    return found


def append_history(path: Path, documents: Sequence[Document]) -> None:
    """Adds one line of JSON a measurement. Raises :class:`UsageError` where the file cannot be written.

    Without ``documents`` it only finds out whether it can be: before minutes of measuring. A last line without an end,
    of a program that was killed, does not swallow the next one.
    """
    lines = [json.dumps(history_line(document), separators=(",", ":")) + "\n" for document in documents]
    try:
        with path.open("ab+") as file:
            if lines and file.tell():
                file.seek(-1, os.SEEK_END)
                lines[:0] = [] if file.read(1) == b"\n" else ["\n"]
            file.write("".join(lines).encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def history_line(document: Document) -> dict[str, Any]:
    """What is kept of a measurement: version, machine and how busy it was, engine, sizes, figures."""
    engine, machine = document["engine"], document["machine"]
    others = document["end_to_end"].get("cores_of_others")
    return {
        "version": document["version"],
        "cpu": machine["cpu"],
        "cores": machine["cores"],
        **({} if others is None else {"cores of other programs": others}),
        "engine": " ".join(engine[key] for key in ("model", "backend", "precision")),
        "size": size_text(document),
        **dict(_figures(document)),
    }


def _figures(document: Document) -> Iterator[tuple[str, float]]:
    run = document["end_to_end"]
    yield "pairs/s", float(run["pairs_per_s"])
    yield "CPU ms/pair", float(run["cpu_ms"])
    for stage in document["stages"]:
        yield f"{stage['name']} CPU ms", float(stage["cpu_ms"])
    against = document.get("against")
    if against is not None:
        yield "after start-up CPU ms/pair", float(against["ours_cpu_ms"])
        yield "ffmpeg CPU ms/pair", float(against["ffmpeg_cpu_ms"])
        yield "of ffmpeg %", float(against["ratio_percent"])
        if against.get("pairs_per_s"):
            yield "after start-up pairs/s", float(against["pairs_per_s"])
        yield "pages mapped/pair", float(against["page_faults"])
        if against.get("peak_mib") is not None:
            yield "peak memory MiB", float(against["peak_mib"])
