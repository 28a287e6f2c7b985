"""``fusepipe probe``: measures what one or two live cameras deliver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.options import (
    Duration,
    check_rig_to_edit,
    examples,
    json_option,
    rig_name_option,
    write_offset_option,
)


@click.command(
    "probe",
    epilog=examples(
        "fusepipe probe rtsp://10.0.0.5/ir rtsp://10.0.0.6/visible --duration 30s",
        "fusepipe probe ir.mkv visible.mkv --write-offset rigs.yaml --rig-name demo",
    ),
)
@click.argument("urls", nargs=-1, required=True, metavar="URL [URL2]")
@click.option("--duration", type=Duration(), help="Time to measure.", show_default="10s; of recordings: all")
@click.option(
    "--transport", type=click.Choice(["tcp", "udp"]), help="RTP transport of rtsp:// cameras.", show_default="tcp"
)
@write_offset_option
@rig_name_option
@json_option
def command(
    urls: tuple[str, ...],
    duration: float | None,
    transport: str | None,
    rig_file: Path | None,
    rig_name: str | None,
    as_json: bool,
) -> None:
    """Measure one live camera, or an infrared (URL) and a visible one (URL2) together; or the offset of two recordings.

    Codec, size, frame rate, jitter, gaps, freezes and clock of each; for two, also the
    time between their frames, the drift between their clocks, and sync.tolerance and sync.max_wait to set. Of two
    cameras or recordings: sync.offset, and the difference of their rolling shutters, from motion that both see.
    """
    from pydantic import ValidationError

    from fusepipe.config.rig_offset import write_offset
    from fusepipe.config.schema import SourceConfig
    from fusepipe.core.errors import FusepipeError, UsageError
    from fusepipe.core.redact import hide_in, hide_known, redact_url
    from fusepipe.workflows.probe import probe

    if len(urls) > 2:
        raise UsageError(f"probe takes one or two cameras; {len(urls)} were given")
    configs = []
    for url in urls:
        data: dict[str, Any] = {"url": url}
        if transport is not None and url.lower().startswith("rtsp"):
            data["transport"] = transport
        try:
            configs.append(SourceConfig.model_validate(data))
        except ValidationError as error:
            raise UsageError(f"{redact_url(url)}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if rig_file is not None and len(urls) == 1:
        raise click.UsageError("--write-offset needs two cameras or recordings")
    check_rig_to_edit(rig_file, rig_name)
    report = probe(configs, duration)
    motion = report.offset
    written = None if rig_file is None or motion is None else write_offset(rig_file, rig_name, motion.offset_ns)
    if as_json:
        offset = {} if written is None else {"written": str(written.path)}
        click.echo(json.dumps({"ok": True, **hide_in(report.as_json()), **offset}, indent=2))
    else:
        click.echo("\n".join(map(hide_known, report.lines())))
    if rig_file is not None and written is None:
        raise FusepipeError(f"{rig_file}: nothing was written: no clear offset was found")
    if written is not None and not as_json:
        click.echo(written.text)
