"""``fusepipe list-engines``: the engines of the cache, and whether each still fits."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.options import json_option


@click.command("list-engines")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
def command(folder: Path | None, as_json: bool) -> None:
    """List the built engines of the cache, or of FOLDER: size, age, and whether each still fits here."""
    from fusepipe.core.errors import UsageError
    from fusepipe.core.models import NETWORKS
    from fusepipe.engines.load import read_onnx
    from fusepipe.engines.manifest import damage, sha256
    from fusepipe.engines.store import default_folder, stored
    from fusepipe.workflows.build_engine import why_misfit

    place = folder or default_folder()
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    rows: list[dict[str, Any]] = []
    for entry in stored(place):
        manifest, problem = entry.manifest, entry.problem
        if manifest is not None and not problem:
            current = sha256(read_onnx(manifest.model)) if manifest.model in NETWORKS else None
            problem = why_misfit(manifest, current) or damage(entry.plan)
        row: dict[str, Any] = {"engine": str(entry.plan), "size_bytes": entry.size_bytes}
        row |= {"age_s": round(time.time() - entry.modified_s), "fits": not problem, "problem": problem}
        if manifest is not None:
            row |= {key: getattr(manifest, key) for key in ("model", "backend", "library_version", "built", "rebuild")}
            row |= {"precision": manifest.achieved_precision, "shapes": str(manifest.shapes)}
        rows.append(row)
    if as_json:
        click.echo(json.dumps({"ok": True, "folder": str(place), "engines": rows}, indent=2))
        return
    click.echo(f"{place}: {len(rows)} {'engine' if len(rows) == 1 else 'engines'}")
    for row in rows:
        what = f"{row['model']} {row['backend']} {row['precision']}" if "model" in row else "damaged"
        fits = "fits" if row["fits"] else f"does not fit: {row['problem']}"
        size = f"{row['size_bytes'] / 1024:.0f} KiB"
        click.echo(f"  {Path(row['engine']).name}  {what}, {size}, {age(row['age_s'])} old, {fits}")


def age(seconds: float) -> str:
    """``3 days``, ``5 h``, ``40 s``: the largest unit that fits."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
