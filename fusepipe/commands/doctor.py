"""``fusepipe doctor``: checks this machine and this installation."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fusepipe.commands.console.options import examples, json_option

if TYPE_CHECKING:
    from fusepipe.workflows.doctor.doctor_check import DoctorCheck

_COLOUR = {"ok": "green", "note": "yellow", "problem": "red"}
_TITLES = {
    "system": "This machine",
    "packages": "Packages",
    "working": "Required packages in use",
    "optional": "Optional",
    "engines": "Backends",
    "folders": "Folders",
}
_LABEL_WIDTH = 24


@click.command(
    "doctor",
    epilog=examples(
        "fusepipe doctor",
    ),
)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this machine and this installation, with the command that fixes each problem.

    Each line is ok, a note (fusepipe works without it) or a problem. Exit code 1 if there is a problem.
    """
    from fusepipe.workflows.doctor.diagnosis import diagnose
    from fusepipe.workflows.doctor.doctor_check import healthy

    checks = diagnose()
    ok = healthy(checks)
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        width = min(120, shutil.get_terminal_size((100, 24)).columns)
        click.echo("\n".join(report(checks, width)))
    ctx.exit(0 if ok else 1)


def report(checks: Sequence[DoctorCheck], width: int) -> list[str]:
    """The lines of the report, ``width`` columns wide except for text that cannot be broken.

    Does not use rich: doctor must run where a dependency is broken.
    """
    lines: list[str] = []
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            lines += ["", click.style(_TITLES.get(section, section), bold=True)]
        status = click.style(f"{check.status:8}", fg=_COLOUR[check.status], bold=check.status == "problem")
        head, *rest = _wrapped(check.message, width) or [""]
        lines.append(f"  {status}{check.name:{_LABEL_WIDTH}}{head}")
        indent = " " * (10 + _LABEL_WIDTH)
        lines += [indent + text for text in rest]
        if check.fix:
            # never wrapped, so that it can be copied
            lines.append(indent + click.style(f"-> {check.fix}", fg=_COLOUR[check.status]))
    return [*lines[1:], "", _verdict(checks)]


def _wrapped(text: str, width: int) -> list[str]:
    room = max(30, width - 10 - _LABEL_WIDTH)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def _verdict(checks: Sequence[DoctorCheck]) -> str:
    problems = sum(check.status == "problem" for check in checks)
    if problems:
        count = "1 problem" if problems == 1 else f"{problems} problems"
        return click.style(f"{count}; lines with -> say how to fix them", fg="red", bold=True)
    return click.style("Everything required works.", fg="green", bold=True)
