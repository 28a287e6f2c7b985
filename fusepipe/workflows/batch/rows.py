"""The rows of a manifest as they are written: CSV, JSON Lines, Parquet, or the files that a pattern matches."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fusepipe.core.errors import ConfigError, Problem, SourceError, UsageError
from fusepipe.core.image_formats import READ_SUFFIXES
from fusepipe.core.natural_order import natural_key
from fusepipe.core.redact import redact_url, remember
from fusepipe.core.video_formats import VIDEO_SUFFIXES
from fusepipe.workflows.batch.remote_inputs import fetch, is_remote, remote_name

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
MAX_ROWS = 1_000_000
_INPUT_SUFFIXES = {*READ_SUFFIXES, *VIDEO_SUFFIXES}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One clip as written. ``line`` is that of the file, counting from 1, or the number of the row or match.

    ``values``: by column, without those that are empty; a name with dots is a key of the rig.
    """

    line: int
    values: Mapping[str, Any]


def read_rows(manifest: str, visible: str | None = None) -> list[ManifestRow]:
    """The rows of a manifest, or one for each file or folder that the pattern ``manifest`` matches.

    ``visible`` is the template of the visible inputs of a pattern, with ``{stem}``, ``{name}`` and ``{parent}`` of the
    infrared one. A manifest on another machine, ``https://`` or ``s3://``, is copied first.

    Raises :class:`SourceError` for a file that cannot be read, :class:`ConfigError` for rows that are not
    of its format, :class:`UsageError` where ``visible`` is missing or not needed.
    """
    shown, remote = redact_url(manifest), is_remote(manifest)
    path = Path(remote_name(manifest) if remote else manifest)
    if path.suffix.lower() not in SUFFIXES:
        if remote:
            raise UsageError(
                f"{shown}: is no manifest ({', '.join(SUFFIXES)}), and a pattern is for files of this machine"
            )
        rows = list(_matches(manifest, visible))
    elif visible is not None:
        raise UsageError(f"--visible {visible}: is for a pattern; the manifest {shown} names the visible inputs")
    else:
        with TemporaryDirectory(prefix="fusepipe-batch-") as folder:
            if remote:
                remember(manifest)
                path = Path(folder) / path.name
                fetch(manifest, path)
            rows = _read(path, shown)
    if not rows:
        matched = path.suffix.lower() not in SUFFIXES
        raise SourceError(f"{shown}: {_no_match(manifest) if matched else 'is empty: it names no clips'}")
    if len(rows) > MAX_ROWS:
        raise UsageError(f"{shown}: has {len(rows)} rows; at most {MAX_ROWS}: split it")
    return rows


def _read(path: Path, shown: str) -> list[ManifestRow]:
    """All rows of a file; problems name it as ``shown``."""
    try:
        return list(_READERS[path.suffix.lower()](path))
    except _Malformed as error:
        raise ConfigError(problems=[Problem(shown, error.line, 0, "", str(error))]) from error.__cause__
    except FileNotFoundError as error:
        raise SourceError(f"{shown}: no such file") from error
    except OSError as error:
        raise SourceError(f"{shown}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(problems=[Problem(shown, 0, 0, "", f"is not UTF-8 text: byte {error.start}")]) from error


class _Malformed(Exception):  # noqa: N818 - never leaves this module
    """What is not of the format of a manifest, and in which line; 0: no particular one."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _csv(path: Path) -> Iterator[ManifestRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            _check_heading(names)
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise _Malformed(1, f"has the column {twice!r} twice")
            line = reader.line_num + 1  # of the row's first line: a quoted value may have line breaks
            rows = 0
            for cells in reader:
                rows += 1
                if len(cells) > len(names):
                    raise _Malformed(line, f"has {len(cells)} values for {len(names)} columns")
                values = {name: _typed(name, cell) for name, cell in zip(names, cells, strict=False) if cell.strip()}
                if values:
                    yield ManifestRow(line, values)
                line = reader.line_num + 1
            if names and not rows:
                raise _Malformed(1, "is the heading, which names the columns; there is no line with a clip below it")
        except csv.Error as error:
            raise _Malformed(reader.line_num, f"is not CSV: {error}") from error


def _check_heading(names: list[str]) -> None:
    """Raises for a first line that is no heading: whose columns are separated otherwise, or that is a clip."""
    for separator in (";", "\t"):
        if len(names) == 1 and separator in names[0]:
            raise _Malformed(1, f"has one column, with {separator!r} in its name: separate columns by commas")
    is_input = [name for name in names if Path(name).suffix.lower() in _INPUT_SUFFIXES]
    if is_input and "infrared" not in names:
        raise _Malformed(1, f"is no heading: {is_input[0]!r} is a file; write infrared,visible,output above it")


def _typed(name: str, cell: str) -> Any:
    """The value of a key of the rig as JSON where it is, such as ``12``, ``true`` or ``[0, 100]``; else the text."""
    if "." not in name:
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _json_lines(path: Path) -> Iterator[ManifestRow]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text, object_pairs_hook=_once)
            except json.JSONDecodeError as error:
                raise _Malformed(line, f"is not JSON: {error.msg}, column {error.pos + 1}") from error
            except (ValueError, RecursionError) as error:
                raise _Malformed(line, f"is not JSON: {error}") from error
            if not isinstance(values, dict):
                raise _Malformed(line, 'is not a JSON object, such as {"infrared": "a.mkv", ...}')
            yield ManifestRow(line, {name: value for name, value in values.items() if value is not None})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once each; of two, JSON would silently take the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _parquet(path: Path) -> Iterator[ManifestRow]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(f"{path}: Parquet needs pyarrow: pip install 'fusepipe[parquet]'") from error
    if not path.stat().st_size:
        return
    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield ManifestRow(
                        number, {name: value for name, value in values.items() if value not in (None, "")}
                    )
    except (ArrowException, ValueError) as error:
        raise _Malformed(0, f"is not a Parquet file: {str(error).splitlines()[0]}") from error


_READERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}


def _no_match(pattern: str) -> str:
    """Why nothing matches: of a folder that may not be read, :mod:`glob` says nothing."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    folder = Path(*parts[:fixed])
    for one in (*reversed(folder.parents), folder):
        needed = os.R_OK | os.X_OK if one == folder else os.X_OK
        if os.path.isdir(one) and not os.access(one, needed):  # noqa: PTH112 - Path raises for what is inside of it
            return f"matches no file: no permission to read {one}"
    return "matches no file"


def _matches(pattern: str, visible: str | None) -> Iterator[ManifestRow]:
    if not glob.has_magic(pattern):
        kinds = ", ".join(SUFFIXES)
        if Path(pattern).is_dir():
            raise UsageError(f"{pattern}: is a folder; write a pattern such as '{pattern.rstrip('/')}/*.mkv'")
        raise UsageError(f"{pattern}: is neither a manifest ({kinds}) nor a pattern such as 'clips/*/ir.mkv'")
    if visible is None:
        raise UsageError(f"{pattern}: is a pattern; add --visible, such as '{{parent}}/vis.mkv' or 'vis/{{stem}}.mkv'")
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - patterns may be absolute
    for number, name in enumerate(found, 1):
        path = Path(name)
        fields = {"stem": path.stem, "name": path.name, "parent": str(path.parent)}
        try:
            partner = visible.format_map(fields)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            raise UsageError(f"--visible {visible}: write {{stem}}, {{name}} or {{parent}}") from error
        yield ManifestRow(number, {"infrared": name, "visible": partner})
