"""``fusepipe bench --roofline``: measures, writes the picture and prints the figures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.core.errors import UsageError


def draw_roofline(
    ctx: click.Context, picture: Path, size: tuple[int, int] | None, time_limit_s: float, as_json: bool
) -> None:
    """Measures networks, ceilings and bandwidth; ``size`` is (width, height), ``None`` for several."""
    for name in ("engines", "soak", "pairs", "backend", "precision", "preset", "views", "agc"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--roofline and --{name} cannot be combined: it runs each precision of OpenVINO")
    if picture.suffix.lower() != ".svg":
        raise UsageError(f"--roofline {picture}: the picture is SVG; name it .svg")
    from fusepipe.core.files import write_bytes
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.bench.roofline import MODELS, SIZES, Roofline, measure_roofline

    named = ctx.get_parameter_source("model") is click.core.ParameterSource.COMMANDLINE
    models = (str(ctx.params["model"]),) if named else MODELS
    with ProgressBar("measuring networks", enabled=not as_json):
        measured: Roofline = measure_roofline(models, (size,) if size else SIZES, time_limit_s)
    write_bytes(picture, measured.svg().encode())
    if as_json:
        click.echo(json.dumps({"ok": True, "picture": str(picture), **measured.as_json()}, indent=2))
        return
    rates = ", ".join(f"{rate:g} GOP/s in {name}" for name, rate in measured.ceilings.items())
    lines = [f"{measured.cpu}, {measured.cores:g} cores: {rates}; memory {measured.bandwidth:g} GB/s", ""]
    lines.append(f"{'':22}{'size':>12}{'op/byte':>9}{'GOP/s':>9}{'CPU ms':>9}")
    for row in measured.rows:
        name, shape = f"{row.model} {row.precision}", f"{row.size[0]}x{row.size[1]}"
        lines.append(f"{name:22}{shape:>12}{row.intensity:9.1f}{row.gops:9.1f}{row.cpu_ms:9.2f}")
    lines += [f"not run: {name}: {reason}" for name, reason in measured.missing.items()]
    click.echo("\n".join([*lines, "", f"wrote {picture}"]))
