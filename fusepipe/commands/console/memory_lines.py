"""``fusepipe bench --memory``: measures and prints what each part of a run holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from fusepipe.core.errors import UsageError

if TYPE_CHECKING:
    from fusepipe.workflows.bench.copies import StageMemory


def print_memory(ctx: click.Context, sizes: list[tuple[tuple[int, int], tuple[int, int]]], as_json: bool) -> None:
    """Measures each (visible, infrared) size, (width, height) each, and prints the tables."""
    for name in ("engines", "soak", "views", "agc", "roofline", "against", "compare", "history"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--memory and --{name} cannot be combined: --memory measures memory alone")
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.bench.memory import FLOOR, measure_memory
    from fusepipe.workflows.bench.throughput import BenchOptions

    given = ctx.params
    settings = [given[name] for name in ("pairs", "model", "backend", "precision", "preset", "time_limit")]
    documents = []
    for visible, infrared in sizes:
        with ProgressBar(f"measuring {visible[0]}x{visible[1]}", enabled=not as_json):
            use = measure_memory(BenchOptions(visible, infrared, *settings))
        documents.append(use.as_json())
        if as_json:
            continue
        lines = [f"visible {visible[0]}x{visible[1]} + infrared {infrared[0]}x{infrared[1]}, {use.pairs} pairs", ""]
        lines.append(f"{'MiB':20}{'anonymous':>12}{'of files':>12}")
        for part in use.parts:
            lines.append(f"  {part.name:18}{part.anonymous_mib:12.1f}{part.file_mib:12.1f}")
        lines += [
            f"  {'run, at most':18}{use.peak_mib:12.1f} in all",
            f"  {' + '.join(FLOOR):18}{use.floor_mib:12.1f}, above it {use.peak_mib - use.floor_mib:.1f}",
            "",
        ]
        click.echo("\n".join(lines))
    if as_json:
        body = documents[0] if len(documents) == 1 else {"sizes": documents}
        click.echo(json.dumps({"ok": True, **body}, indent=2))


def copy_lines(stages: list[StageMemory]) -> list[str]:
    """What a further pair costs each stage in memory, as text."""
    lines = ["", f"{'a further pair':18}{'KiB new':>12}{'planes':>8}{'written':>14}"]
    for stage in stages:
        written = "each once" if stage.written is None else str(stage.written)
        lines.append(f"  {stage.stage:16}{stage.allocated_kib:12.1f}{stage.planes:8}{written:>14}")
    return lines if stages else []
