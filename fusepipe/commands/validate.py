"""``fusepipe validate``: checks a file of rigs and says what is wrong, with line numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fusepipe.config.load import CheckedRig, RigFileDocument
    from fusepipe.core.errors import Problem

EXIT_CONFIG = 2


@click.command("validate")
@click.argument("file", default="rigs.yaml", type=click.Path(path_type=Path))
@click.option("--name", "names", multiple=True, metavar="RIG", help="Check this rig as it would run; may be repeated.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.pass_context
def command(ctx: click.Context, file: Path, names: tuple[str, ...], schema: bool, as_json: bool) -> None:
    """Check FILE (default: rigs.yaml): its keys, values, names and paths.

    Every problem is one line with file:line and the key. An environment variable that is not set is a
    problem of the rigs that are named with --name, and a note for the others. Nothing is opened: whether
    a camera or a file is there, 'fusepipe run --dry-run' says.
    """
    from fusepipe.core.errors import ConfigError

    if schema:
        from fusepipe.config.json_schema import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    report = Report(str(file))
    try:
        report.check(names)
    except ConfigError as error:
        report.problems += error.problems
    if as_json:
        click.echo(json.dumps(report.document(), indent=2))
        ctx.exit(0 if report.ok else EXIT_CONFIG)
    if not report.ok:
        raise ConfigError(problems=report.problems)
    click.echo(report.text())


class Report:
    """What a check found. ``rigs`` has the name, whether it can run as things are, and a description."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.rigs: list[dict[str, Any]] = []
        self.problems: list[Any] = []
        self.notes: list[Any] = []

    @property
    def ok(self) -> bool:
        return not self.problems

    def check(self, names: tuple[str, ...]) -> None:
        """Loads the file and checks the rigs of these names, or all; raises what loading raises."""
        from fusepipe.config.load import load_rig_file
        from fusepipe.core.yaml_models import in_file_order

        document = load_rig_file(self.file)
        checked = document.check(names or None)
        for result in checked:
            self.rigs.append(
                {"name": result.name, "ok": result.rig is not None, "description": document.describe(result.name)}
            )
        found = [problem for result in checked for problem in result.problems]
        self.problems = in_file_order([*found, *_scene_problems(document, checked)])
        unset = in_file_order(problem for result in checked for problem in result.unset)
        if names:
            self.problems = in_file_order([*self.problems, *unset])
        else:
            self.notes = unset

    def document(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "ok": self.ok,
            "rigs": self.rigs,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": [asdict(note) for note in self.notes],
        }

    def text(self) -> str:
        entries = [f"{rig['name']} ({rig['description']})" for rig in self.rigs]
        if len(entries) == 1:
            lines = [f"{self.file}: ok, 1 rig: {entries[0]}"]
        else:
            lines = [f"{self.file}: ok, {len(entries)} rigs:", *(f"  {entry}" for entry in entries)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _scene_problems(document: RigFileDocument, checked: Sequence[CheckedRig]) -> list[Problem]:
    """What is wrong with the options of ``synthetic://`` scenes, which only their source knows."""
    from fusepipe.core.errors import UsageError
    from fusepipe.core.frames import Band
    from fusepipe.pipeline.sources.synthetic.options import parse_options

    problems = []
    for rig in (result.rig for result in checked if result.rig is not None):
        for band, source in ((Band.INFRARED, rig.infrared), (Band.VISIBLE, rig.visible)):
            if source.kind == "synthetic":
                try:
                    parse_options(source.url, band)
                except UsageError as error:
                    problems.append(document.problem_at(rig.name, (str(band), "url"), str(error)))
    return problems
