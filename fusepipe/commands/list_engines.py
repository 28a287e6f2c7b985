"""``fusepipe list-engines``: the engines of the cache, and whether each still fits."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.console.options import examples, json_option


@click.command(
    "list-engines",
    epilog=examples(
        "fusepipe list-engines",
    ),
)
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
def command(folder: Path | None, as_json: bool) -> None:
    """List the built engines of the cache, or of FOLDER: size, age, and whether each still fits here."""
    from fusepipe.workflows.list_engines import list_engines

    listed, entries = list_engines(folder)
    rows = [entry.as_json() for entry in entries]
    if as_json:
        click.echo(json.dumps({"ok": True, "folder": str(listed), "engines": rows}, indent=2))
        return
    click.echo(f"{listed}: {len(rows)} {'engine' if len(rows) == 1 else 'engines'}")
    for row in rows:
        what = f"{row['model']} {row['backend']} {row['precision']}" if "model" in row else "damaged"
        fits = "fits"
        if row["problem"]:
            fits = f"does not fit: {row['problem']}"
        elif row["no_gpu"]:
            fits = f"does not run here: {row['no_gpu']}"
        size = f"{row['size_bytes'] / 1024:.0f} KiB"
        click.echo(f"  {Path(row['engine']).name}  {what}, {size}, {age(row['age_s'])} old, {fits}")


def age(seconds: float) -> str:
    """``3 days``, ``5 h``, ``40 s``: the largest unit that fits."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
