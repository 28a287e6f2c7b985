"""``fusepipe probe``: measures what one or two live cameras deliver."""

from __future__ import annotations

import json
from typing import Any

import click

from fusepipe.commands.console.options import Duration, examples, json_option


@click.command(
    "probe",
    epilog=examples(
        "fusepipe probe rtsp://10.0.0.5/ir rtsp://10.0.0.6/visible --duration 30s",
        "fusepipe probe ir.mkv visible.mkv",
    ),
)
@click.argument("urls", nargs=-1, required=True, metavar="URL [URL2]")
@click.option("--duration", type=Duration(), help="Time to measure.", show_default="10s; of recordings: all")
@click.option(
    "--transport", type=click.Choice(["tcp", "udp"]), help="RTP transport of rtsp:// cameras.", show_default="tcp"
)
@json_option
def command(urls: tuple[str, ...], duration: float | None, transport: str | None, as_json: bool) -> None:
    """Measure one live camera, or an infrared (URL) and a visible one (URL2) together; or the offset of two recordings.

    Codec, size, frame rate, jitter, gaps, freezes and clock of each; for two, also the
    time between their frames, the drift between their clocks, and sync.tolerance and sync.max_wait to set. Of two
    cameras or recordings: sync.offset, and the difference of their rolling shutters, from motion that both see.
    """
    from pydantic import ValidationError

    from fusepipe.config.schema import SourceConfig
    from fusepipe.core.errors import UsageError
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
    report = probe(configs, duration)
    if as_json:
        click.echo(json.dumps({"ok": True, **hide_in(report.as_json())}, indent=2))
    else:
        click.echo("\n".join(map(hide_known, report.lines())))
