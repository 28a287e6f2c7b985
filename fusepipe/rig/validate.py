"""``fusepipe validate``: the problems of a rigs.yaml that can be found without opening inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.config.rig_file import CheckedRig, RigFileDocument, load_rig_file
from fusepipe.core.errors import ConfigError, Problem, UsageError
from fusepipe.core.frames import Band
from fusepipe.core.yaml_models import in_file_order
from fusepipe.pipeline.sources.synthetic.options import parse_options
from fusepipe.rig.factories.certificates import certificate_findings


@dataclass(frozen=True, slots=True)
class RigSummary:
    """``ok``: the rig can run as it is."""

    name: str
    ok: bool
    description: str


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """``problems`` make the file invalid, ``notes`` do not.

    Notes are warnings, and what another machine may have: unset environment variables and missing certificate files of
    rigs that were not selected.
    """

    file: str
    rigs: tuple[RigSummary, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, "ok": self.ok} | {
            name: [asdict(item) for item in getattr(self, name)] for name in ("rigs", "problems", "notes")
        }

    def text(self) -> str:
        """The lines printed for a valid file."""
        entries = [f"{rig.name} ({rig.description})" for rig in self.rigs]
        if len(entries) == 1:
            lines = [f"{self.file}: ok, 1 rig: {entries[0]}"]
        else:
            lines = [f"{self.file}: ok, {len(entries)} rigs:", *(f"  {entry}" for entry in entries)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def validate(file: Path, names: Sequence[str] = ()) -> ValidationReport:
    """Checks the rigs of these names, or all; what is missing on this machine is a problem of named rigs only."""
    try:
        document = load_rig_file(file)
        checked = document.check(names or None)
    except ConfigError as error:
        return ValidationReport(str(file), problems=error.problems)
    problems = [problem for rig in checked for problem in rig.problems]
    problems += _scene_problems(document, checked)
    missing = [problem for rig in checked for problem in rig.unset]
    notes: list[Problem] = []
    for rig in (result.rig for result in checked if result.rig is not None):
        for finding in certificate_findings(rig):
            place = notes if finding.usable else missing if finding.missing else problems
            place.append(document.problem_at(rig.name, finding.key_path, finding.message))
    broken = {name for name in document.names if any(p.key.startswith(f"rigs.{name}.") for p in problems)}
    rigs = tuple(
        RigSummary(rig.name, rig.rig is not None and rig.name not in broken, document.describe(rig.name))
        for rig in checked
    )
    (problems if names else notes).extend(missing)
    return ValidationReport(str(file), rigs, tuple(in_file_order(problems)), tuple(in_file_order(notes)))


def _scene_problems(document: RigFileDocument, checked: Sequence[CheckedRig]) -> Iterator[Problem]:
    """Problems with the options of ``synthetic://`` scenes, which only their source can check."""
    for rig in (result.rig for result in checked if result.rig is not None):
        for band, source in ((Band.INFRARED, rig.infrared), (Band.VISIBLE, rig.visible)):
            if source.kind == "synthetic":
                try:
                    parse_options(source.url, band)
                except UsageError as error:
                    yield document.problem_at(rig.name, (str(band), "url"), str(error))
