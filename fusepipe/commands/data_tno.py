"""``fusepipe data tno``: downloads, arranges and verifies the TNO image data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusepipe.commands.console.options import examples, json_option, overwrite_option
from fusepipe.core.errors import SourceError

if TYPE_CHECKING:
    from fusepipe.workflows.data_tno.arrange import Arranged

MOST_LISTED = 8


@click.command(
    "tno",
    short_help="The TNO data set: three sequences and 42 pairs.",
    epilog=examples(
        "fusepipe data tno --from figshare",
    ),
)
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    help="A zip file or folder of the data set, the URL of a zip, or 'figshare' to download it.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to arrange it.",
    show_default="$FUSEPIPE_TNO or ~/.local/share/fusepipe/tno",
)
@overwrite_option
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, to: Path | None, overwrite: bool, as_json: bool) -> None:
    """The TNO image fusion data set: three sequences and the 42 pairs that papers test on.

    Without --from it shows where to get the data set and verifies what is arranged already. With
    --from, every image is found by name or content, verified by the checksum of its pixels and written as a
    grey PNG: sequences/NAME/{ir,vis}/0000.png and pairs/{ir,vis}/NAME.png. Exit code 3 where an image has
    other pixels than the published one; it is omitted.
    """
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.evaluation.tno_catalogue import ABOUT, DOI, PAGE, tno_folder
    from fusepipe.workflows.data_tno.arrange import get, verify_folder

    folder = to or tno_folder()
    credit = {"doi": DOI, "page": PAGE, "about": ABOUT}
    report = None
    with ProgressBar("TNO", enabled=not as_json) as progress:
        if source is not None:
            report = get(source, folder, overwrite=overwrite, step=progress.step)
        elif folder.is_dir():
            report = verify_folder(folder, progress.step)
    failed = report is not None and bool(report.different)
    if as_json:
        code = SourceError.exit_code if failed else 0
        document = {"ok": not failed, "exit_code": code, "errors": [], "folder": str(folder), "credit": credit}
        click.echo(json.dumps(document | (report.as_json() if report else {"complete": None}), indent=2))
    else:
        print_status(report, folder, ABOUT)
    if failed:
        ctx.exit(SourceError.exit_code)


def print_status(report: Arranged | None, folder: Path, about: str) -> None:
    """Prints which images are complete, missing or different."""
    click.echo(about)
    if report is None:
        click.echo(
            f"\nNothing is arranged at {folder}. To do so:\n"
            "  fusepipe data tno --from figshare      downloads it\n"
            "  fusepipe data tno --from FILE.zip      arranges an archive or a folder that you have"
        )
        return
    click.echo(f"\n{report.folder}:")
    for name, (have, of) in report.complete.items():
        click.echo(f"  {name:10} {have:3} of {of} images verified")
    _list("missing", report.missing)
    _list("different", report.different)


def _list(heading: str, names: Mapping[str, str]) -> None:
    if names:
        click.echo(f"{heading}: {len(names)}")
        for name, why in list(names.items())[:MOST_LISTED]:
            click.echo(f"  {name}: {why}")
        if len(names) > MOST_LISTED:
            click.echo(f"  and {len(names) - MOST_LISTED} more (--json lists all)")
