"""The clips of a batch: rows of a manifest, checked before anything runs; nothing hostile gets past here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ValidationError

from fusepipe.config.locations import check_text, resolve_path, resolve_url, scheme_of
from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.schema import FileSink, ImagesSink, Rig
from fusepipe.core.errors import ConfigError, Problem, UsageError
from fusepipe.core.image_formats import READ_SUFFIXES, WRITTEN_SUFFIXES
from fusepipe.core.image_pages import holds_many_images
from fusepipe.core.redact import redact_url, remember
from fusepipe.core.suggest import closest
from fusepipe.core.video_formats import folder_name_problem, output_name_problem, video_format
from fusepipe.core.yaml_models import FROM_YAML, value_problem
from fusepipe.workflows.batch.remote_inputs import is_remote, remote_folder, remote_name
from fusepipe.workflows.batch.rows import ManifestRow
from fusepipe.workflows.batch.segment_plan import ClipPart

STATE_FOLDER = ".batch"  # in the output folder: records, unfinished outputs, the lock
REPORT_STEM = "batch"  # of the reports in the output folder
MAX_PROBLEMS = 20
# of a name of an output: file systems take 255, and a file has .partial in its name until it is complete; a sidecar's
# suffix is longer
MAX_NAME_BYTES = 245
MAX_SHOWN = 80  # characters of a name that is too long
SECTIONS = ("infrared", "visible", "sync", "registration", "fusion", "output", "sink")
COLUMNS = ("infrared", "visible", "output", "rig", "rig_name")

OutputKind = Literal["video", "images", "image"]


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One clip of a batch. ``row`` is its line in the manifest.

    ``output`` is relative to the output folder, with slashes, and names a video, a folder or one image (``kind``).
    ``rig`` has no sinks; ``sink`` are the keys of the one that writes the output, besides its name. ``remote``: URLs of
    inputs on other machines, by camera; the rig's are then names of copies that do not exist yet. ``part``: what is
    done with a clip that is split; ``None`` for a whole one.
    """

    row: int
    output: str
    kind: OutputKind
    rig: Rig
    sink: Mapping[str, Any] = field(default_factory=dict)
    remote: Mapping[str, str] = field(default_factory=dict)
    part: ClipPart | None = None

    @property
    def task(self) -> str:
        """What names a part of a clip among all tasks of a batch; of others the output."""
        return self.output if self.part is None or self.part.index is None else f"{self.output}\n{self.part.index}"

    @property
    def inputs(self) -> tuple[str, str]:
        """The infrared and the visible input: absolute paths or URLs."""
        remote = self.remote
        return remote.get("infrared", self.rig.infrared.url), remote.get("visible", self.rig.visible.url)


class _Invalid(Exception):  # noqa: N818 - never leaves this module
    """What is wrong with one row, and with which of its columns."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class RigChoice:
    """A rig file, and the name of one of its rigs where it has several."""

    file: Path
    name: str | None = None


def local_manifest(written: str) -> str:
    """A manifest as given, a ``file://`` URL as its path."""
    return resolve_url(written, Path.cwd()) if scheme_of(written) == "file" else written


def output_folder(written: str) -> Path:
    """The folder of ``--out``; raises :class:`UsageError` for a URL."""
    if scheme_of(written):
        raise UsageError(
            f"--out {redact_url(written)}: is a URL; outputs are verified and replaced in place, so write to a folder "
            "of this machine or a mounted one, and copy it afterwards"
        )
    if not written.strip():
        raise UsageError("--out is empty; write a folder, such as fused, or . for this one")
    return Path(written)


def read_entries(
    rows: Iterable[ManifestRow], manifest: str, out: Path, *, shared: RigChoice | None = None
) -> list[BatchEntry]:
    """The clips of ``rows``; paths are relative to the folder of ``manifest``, outputs to ``out``.

    Inputs of a manifest on another machine are relative to its URL; other paths in it are absolute.

    Raises :class:`ConfigError` with the line of each row that is not valid: unknown columns, invalid settings, outputs
    outside of ``out`` or that two rows share, names with control characters.
    """
    base = Path(manifest).absolute().parent if Path(manifest).is_file() else Path.cwd()
    reader = _Reader(base, out, shared, remote_folder(manifest) if is_remote(manifest) else "")
    manifest = redact_url(manifest)
    entries: list[BatchEntry] = []
    problems: list[Problem] = []
    for row in rows:
        try:
            entries.append(reader.entry(row))
        except _Invalid as error:
            problems.append(Problem(manifest, row.line, 0, error.key, str(error)))
        except OSError as error:  # a name that no file can have
            name = str(error.filename)
            shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
            problems.append(Problem(manifest, row.line, 0, "", f"{shown!r}: {(error.strerror or '').lower()}"))
    problems += _collisions(entries, manifest, out)
    if problems:
        problems.sort(key=lambda problem: problem.line)
        more = len(problems) - MAX_PROBLEMS
        if more > 0:
            problems = [*problems[:MAX_PROBLEMS], Problem(manifest, 0, 0, "", f"has {more} more invalid rows")]
        raise ConfigError(problems=problems)
    return entries


class _Reader:
    """Makes entries of rows; rig files are read once."""

    def __init__(self, base: Path, out: Path, shared: RigChoice | None, remote_base: str = "") -> None:
        self._base, self._out, self._shared, self._remote_base = base, out.absolute(), shared, remote_base
        self._bodies: dict[RigChoice, dict[str, Any]] = {}
        if shared is not None:
            self._body(shared)  # its problems are not those of a row

    def entry(self, row: ManifestRow) -> BatchEntry:
        unknown = [name for name in row.values if name not in COLUMNS and name.partition(".")[0] not in SECTIONS]
        if unknown:
            close = closest(str(unknown[0]), COLUMNS)
            known = f"known: {', '.join(COLUMNS)}, and keys of a rig such as fusion.model"
            raise _Invalid(str(unknown[0]), f"is not a column; {f'did you mean {close!r}?' if close else known}")
        inputs = {band: self._input(band, row.values.get(band)) for band in ("infrared", "visible")}
        body, base_dir = self._rig_body(row.values)
        sink = _own_sink(body)
        for name, value in row.values.items():
            section, dot, key = name.partition(".")
            if dot and section == "sink":
                sink[key] = value
            elif dot:
                _set(body, section, key, value)
        for section, key in (("registration", "calibration"), ("fusion", "engine")):
            written = row.values.get(f"{section}.{key}")
            if isinstance(written, str) and not scheme_of(written):
                body[section][key] = self._path(f"{section}.{key}", written)
        remote = {band: url for band, url in inputs.items() if is_remote(url)}
        for band, url in inputs.items():
            if band in remote and not remote_name(url):
                raise _Invalid(band, f"{redact_url(url)}: names no file")
            body.setdefault(band, {})["url"] = f"/remote/{band}/{remote_name(url)}" if band in remote else url
        rig = _valid(Rig, {**body, "name": "clip", "base_dir": base_dir})
        for band, source in (("infrared", rig.infrared), ("visible", rig.visible)):
            if source.kind == "live":
                raise _Invalid(band, f"{redact_url(source.url)}: is a live camera; use fusepipe run")
        output = self._output(row.values.get("output") or _default_output(*inputs.values()))
        kind = _kind(output, inputs.values())
        _check_sink(kind, output, sink)
        return BatchEntry(row.line, output.rstrip("/"), kind, rig, sink, remote)

    def _input(self, band: str, value: Any) -> str:
        if value is None or value == "":
            raise _Invalid(band, "is missing: name a video, an image or a folder of images")
        if not isinstance(value, str):
            raise _Invalid(band, f"should be a path or URL, not {value!r}")
        remember(value)
        try:
            if self._remote_base and not scheme_of(value) and not value.startswith(("/", "~")):
                name = check_text(value)
                return self._remote_base + (quote(name) if self._remote_base.startswith("http") else name)
            return resolve_url(check_text(value), self._base)
        except ValueError as error:
            raise _Invalid(band, f"{redact_url(value)!r} {error}") from error

    def _path(self, key: str, written: str) -> str:
        if self._remote_base and not written.startswith(("/", "~")):
            raise _Invalid(key, f"{written!r}: write an absolute path; the manifest is on another machine")
        return resolve_path(written, self._base)

    def _rig_body(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
        """The keys of the row's rig file, of the shared one, or none; and the folder that its paths start from."""
        file, name = values.get("rig"), values.get("rig_name")
        choice = self._shared
        if file is not None:
            choice = RigChoice(Path(self._path("rig", str(file))), None if name is None else str(name))
        elif name is not None:
            if choice is None:
                raise _Invalid("rig_name", "needs a rig file: a column rig, or --rig")
            choice = RigChoice(choice.file, str(name))
        if choice is None:
            return {}, self._base
        try:
            return deepcopy(self._body(choice)), choice.file.absolute().parent
        except UsageError as error:
            raise _Invalid("rig", str(error).replace("\n", "; ")) from error

    def _body(self, choice: RigChoice) -> dict[str, Any]:
        if choice not in self._bodies:
            document = load_rig_file(choice.file)
            if choice.name is None and len(document.names) != 1:
                raise UsageError(
                    f"{choice.file}: has {len(document.names)} rigs ({', '.join(document.names)}); name one"
                )
            self._bodies[choice] = document.body(choice.name or document.names[0])
        return self._bodies[choice]

    def _output(self, value: Any) -> str:
        """The name of an output; raises for one that could be outside of the output folder."""
        if not isinstance(value, str):
            raise _Invalid("output", f"should be a path in the output folder, not {value!r}")
        try:
            check_text(value)
        except ValueError as error:
            raise _Invalid("output", f"{value!r} {error}") from error
        path = PurePosixPath(value)
        if path.is_absolute() or scheme_of(value) or ".." in path.parts or "\\" in value or not path.parts:
            raise _Invalid("output", f"{value!r} is not a path inside the output folder: no leading /, no .., no \\")
        if len(longest := max((os.fsencode(part) for part in path.parts), key=len)) > MAX_NAME_BYTES:
            raise _Invalid(
                "output",
                f"{value[:MAX_SHOWN]!r}...: a name of {len(longest)} bytes is too long; at most {MAX_NAME_BYTES}",
            )
        if path.parts[0] == STATE_FOLDER or path.name.startswith("."):
            raise _Invalid("output", f"{value!r}: hidden names are reserved")
        if len(path.parts) == 1 and path.stem == REPORT_STEM and path.suffix in (".csv", ".json", ".html", ".parquet"):
            raise _Invalid("output", f"{value!r} is the name of a report of the batch")
        # not Path.resolve, which fails at a loop of links: the output then fails, with its reason
        if not Path(os.path.realpath(self._out / path)).is_relative_to(os.path.realpath(self._out)):
            raise _Invalid("output", f"{value!r} is outside the output folder, by a symbolic link")
        return f"{path}/" if value.endswith("/") else str(path)


def _set(body: dict[str, Any], section: str, key: str, value: Any) -> None:
    place = body.get(section)
    if not isinstance(place, dict):
        place = body[section] = {}
    place[key] = value


def _own_sink(body: dict[str, Any]) -> dict[str, Any]:
    """The keys, besides the name, of the first sink of the rig that writes files; its sinks are removed."""
    for sink in body.pop("sinks", None) or ():
        if "file" in sink or "images" in sink:
            return {key: value for key, value in sink.items() if key not in ("file", "images")}
    return {}


def _default_output(infrared: str, visible: str) -> str:
    """``STEM.mkv`` for videos, ``STEM.png`` for two images, ``STEM/`` for folders."""
    stem = PurePosixPath(infrared.partition("?")[0]).stem or "fused"
    if _is_image(infrared) and _is_image(visible):
        return f"{stem}.png"
    return f"{stem}/" if Path(infrared).is_dir() and Path(visible).is_dir() else f"{stem}.mkv"


def _is_image(name: str) -> bool:
    path = Path(remote_name(name) if is_remote(name) else name)
    return (
        path.suffix.lower() in READ_SUFFIXES and not path.is_dir() and not (path.is_file() and holds_many_images(path))
    )


def _kind(output: str, inputs: Iterable[str]) -> OutputKind:
    """What an output is, by its name. Raises for one whose name does not say it."""
    if not output.endswith("/"):
        if video_format(Path(output)) is not None:
            if problem := output_name_problem(output):
                raise _Invalid("output", f"{output!r}: {problem}")
            return "video"
        if Path(output).suffix.lower() in WRITTEN_SUFFIXES:
            if not all(map(_is_image, inputs)):
                raise _Invalid("output", f"{output!r} is one image, and the inputs are not; name a folder/ or a video")
            return "image"
    if problem := folder_name_problem(output):
        raise _Invalid("output", f"{output!r}: {problem}")
    return "images"


def _check_sink(kind: OutputKind, output: str, sink: Mapping[str, Any]) -> None:
    match kind:
        case "video":
            _valid(FileSink, {**sink, "file": output.replace("%", "%%")}, "sink")
            if any(key.startswith(("segment", "max_")) for key in sink):
                raise _Invalid("sink", "segments of a recording are for fusepipe run; an entry of a batch is one file")
        case "images":
            _valid(ImagesSink, {**sink, "images": output}, "sink")
        case "image":
            if sink:
                raise _Invalid(
                    "sink", f"{output!r} is one image, whose suffix sets its format: remove the keys of sink"
                )


def _valid(model: type[Rig] | type[FileSink] | type[ImagesSink], body: Mapping[str, Any], place: str = "") -> Any:
    try:
        # without the context, numbers of Python have units; text has the ones of a rig file
        return model.model_validate(dict(body), context=None if model is Rig else dict(FROM_YAML))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in detail["loc"]) or place
        raise _Invalid(key if not place or key == place else f"{place}.{key}", value_problem(detail, model)) from error


def _collisions(entries: Sequence[BatchEntry], manifest: str, out: Path) -> list[Problem]:
    """Outputs that two rows share, that are inside of another output, or that are inputs."""
    problems: list[Problem] = []
    rows: dict[str, int] = {}
    inputs = {os.path.normpath(path): entry.row for entry in entries for path in entry.inputs if path.startswith("/")}
    inside = {str(parent): path for path in inputs for parent in Path(path).parents}
    for entry in entries:
        first = rows.setdefault(entry.output, entry.row)
        if first != entry.row:
            message = f"{entry.output!r} is also the output of line {first}"
            problems.append(Problem(manifest, entry.row, 0, "output", message))
        path = os.path.normpath(out.absolute() / entry.output)
        taken = path if path in inputs else inside.get(path)
        if taken is not None:
            message = f"{entry.output!r} is also an input, of line {inputs[taken]}"
            problems.append(Problem(manifest, entry.row, 0, "output", message))
    for entry in entries:
        for parent in PurePosixPath(entry.output).parents:
            if (row := rows.get(str(parent))) is not None:
                message = f"{entry.output!r} is inside of the output of line {row}"
                problems.append(Problem(manifest, entry.row, 0, "output", message))
    return problems
