"""Loads a folder of rig files: every rig that is valid, and why the others are not.

Unlike in one file, a mistake concerns its own rig, and a file that cannot be read only its own rigs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fusepipe.config.rig_file import CheckedRig, RigFileDocument, load_rig_file, with_conflicts
from fusepipe.config.schema import Rig
from fusepipe.config.sinks import PreviewSink
from fusepipe.core.errors import ConfigError, Problem, UsageError
from fusepipe.core.natural_order import natural_key
from fusepipe.core.redact import redact_url
from fusepipe.core.suggest import did_you_mean

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class RefusedRig:
    """A rig that cannot run as its file is; ``name`` is that of the file where the file cannot be read."""

    name: str
    error: ConfigError


@dataclass(frozen=True, slots=True)
class RigSelection:
    """The rigs to run, and those that cannot."""

    rigs: Sequence[Rig]
    refused: Sequence[RefusedRig] = ()

    @property
    def problems(self) -> list[Problem]:
        """Those of all refused rigs."""
        return [p for one in self.refused for p in one.error.problems or [Problem("", 0, 0, "", str(one.error))]]


def load_rigs(path: Path, names: Sequence[str] | None = None, *, preview: str | None = None) -> RigSelection:
    """The rigs of these names, or all, of a rig file, all of which must be valid, or of a folder of rig files.

    ``preview`` is the address of a page that every rig gets besides its own; its token is the environment variable
    ``FUSEPIPE_PREVIEW_TOKEN``. Raises :class:`ConfigError`, :class:`UsageError` for the address.
    """
    page = None if preview is None else _page(preview)
    selection = load_rig_folder(path, names) if path.is_dir() else RigSelection(load_rig_file(path).select(names))
    if page is None:
        return selection
    return RigSelection([_with_page(rig, page) for rig in selection.rigs], selection.refused)


def _page(url: str) -> PreviewSink:
    try:
        return PreviewSink(preview=url, token=os.environ.get("FUSEPIPE_PREVIEW_TOKEN") or None)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--preview: {redact_url(url)}: {message}") from error


def _with_page(rig: Rig, page: PreviewSink) -> Rig:
    own = {(s.endpoint.host, s.endpoint.port) for s in rig.sinks if isinstance(s, PreviewSink)}
    listed = (page.endpoint.host, page.endpoint.port) in own
    return rig if listed else rig.model_copy(update={"sinks": (*rig.sinks, page)})


def load_rig_folder(
    folder: Path, names: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
) -> RigSelection:
    """The rigs of these names, or all, of the files ``*.yaml`` and ``*.yml`` in ``folder``, in natural order.

    Names are unique in the folder: of two rigs with one name, or that cannot run together, the first runs. Raises
    :class:`ConfigError` where there is no rig file, for an unknown name, and with all problems if no rig is valid.
    """
    documents, refused = _documents(folder)
    known = {name for document in documents for name in document.names}
    for name in names or ():
        if name not in known and not refused:  # one of the files that cannot be read may have it
            raise ConfigError(f"{folder}: unknown rig {name!r} ({did_you_mean(name, sorted(known))})")
    checked: list[tuple[RigFileDocument, CheckedRig]] = []
    first: dict[str, RigFileDocument] = {}
    for document in documents:
        for result in document.check_keys([n for n in document.names if names is None or n in names], environ):
            if (other := first.setdefault(result.name, document)) is document:
                checked.append((document, result))
            else:
                message = f"is the name of a rig of {other.path.name} as well: give one of them another name"
                problem = document.problem_at(result.name, (), message)
                refused.append(RefusedRig(f"{result.name}@{document.path.name}", ConfigError(problems=[problem])))
    results = with_conflicts(checked)
    refused += [RefusedRig(r.name, ConfigError(problems=[*r.problems, *r.unset])) for r in results if r.rig is None]
    rigs = [result.rig for result in results if result.rig is not None]
    if not rigs:
        raise ConfigError(problems=RigSelection((), refused).problems)
    return RigSelection(rigs, refused)


def _documents(folder: Path) -> tuple[list[RigFileDocument], list[RefusedRig]]:
    try:
        files = sorted((f for f in folder.iterdir() if _is_rig_file(f)), key=lambda file: natural_key(file.name))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    if not files:
        raise ConfigError(f"{folder}: has no rig files; they are named *.yaml")
    documents, refused = [], []
    for file in files:
        try:
            documents.append(load_rig_file(file))
        except ConfigError as error:
            refused.append(RefusedRig(file.name, error))
    return documents, refused


def _is_rig_file(file: Path) -> bool:
    """A broken link is one, which is then reported; a pipe, from which reading might never end, is not."""
    named = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    return named and (file.is_file() or not file.exists())
