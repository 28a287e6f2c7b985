"""The record of a finished output: what it was made from, its files and their hashes.

A worker writes it just before the output gets its name. So an output whose record matches is finished, whichever
process was killed; everything else is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fusepipe.config.locations import input_kind, split_stream
from fusepipe.config.schema import Rig
from fusepipe.core.errors import OutputExistsError
from fusepipe.core.files import move_into_place, replace_folder, write_text
from fusepipe.core.version import __version__
from fusepipe.workflows.batch.entries import STATE_FOLDER, BatchEntry
from fusepipe.workflows.batch.remote_inputs import is_remote, remote_stamp

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of an output: its path relative to the output folder, SHA-256 in hex, and size."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A finished output. ``made_from``: hash of the settings and of the inputs' sizes and times.

    ``figures``: pairs, seconds and so on of the run that made it, for the report.
    """

    output: str
    made_from: str
    files: tuple[OutputFile, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    version: str = __version__


def record_path(out: Path, output: str) -> Path:
    """Where the record of an output is."""
    return out / STATE_FOLDER / "records" / f"{hashlib.sha256(output.encode()).hexdigest()[:24]}.json"


def read_record(out: Path, output: str) -> OutputRecord | None:
    """The record of an output; ``None`` where there is none, or it cannot be read."""
    try:
        document = json.loads(record_path(out, output).read_text("utf-8"))
        files = tuple(OutputFile(**file) for file in document.pop("files"))
        record = OutputRecord(files=files, **document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if record.output == output else None


def is_finished(out: Path, record: OutputRecord, made_from: str) -> bool:
    """Whether the output is there as it was written, from these inputs with these settings."""
    if record.made_from != made_from or not record.files:
        return False
    try:
        return all(hashed_file(out / file.path, file.path) == file for file in record.files)
    except OSError:
        return False


def made_from(entry: BatchEntry) -> str:
    """A hash of all that the output depends on: the settings, and size and time of change of each file that is read.

    Those are the inputs, the calibration, the engine and the flat field. Raises ``OSError`` for an input that does not
    exist, and as :func:`remote_stamp` for one on another machine.
    """
    settings = entry.rig.model_dump(mode="json", exclude={"base_dir"})
    inputs = [remote_stamp(url) if is_remote(url) else _stamps(url) for url in entry.inputs]
    others = [_stamps(file) for file in _setting_files(entry.rig)]
    document = [entry.kind, entry.output, dict(entry.sink), settings, inputs, dict(entry.remote)]
    if others:  # else the hash is that of earlier versions, so that an update does not make everything again
        document.append(others)
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _setting_files(rig: Rig) -> list[str]:
    """The files that settings name, apart from those which do not exist: the run says so."""
    repair = rig.infrared.repair
    named = (rig.registration.calibration, rig.fusion.engine, None if repair is None else repair.shading)
    return [file for file in named if file is not None and Path(file).exists()]


def _stamps(url: str) -> list[tuple[str, int, int]]:
    if input_kind(url) != "path":
        return []
    path, _ = split_stream(url)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return [(file.name, (status := file.stat()).st_size, status.st_mtime_ns) for file in files]


def publish_output(work: Path, out: Path, entry: BatchEntry, made: str, figures: dict[str, Any]) -> OutputRecord:
    """Gives what is in the folder ``work`` its names in ``out``, after its record is on the disk.

    Raises ``OSError`` as the file system gives it; then neither is complete, and the next run makes the output again.
    """
    target = out / Path(entry.output).parent
    files = tuple(
        hashed_file(file, (target / file.relative_to(work)).relative_to(out).as_posix()) for file in _files(work)
    )
    record = OutputRecord(entry.output, made, files, figures)
    target.mkdir(parents=True, exist_ok=True)
    path = record_path(out, entry.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(record), indent=1))
    # a sidecar before its video
    for made_item in sorted(work.iterdir(), key=lambda item: item.name == Path(entry.output).name):
        if made_item.is_dir():
            replace_folder(made_item, target / made_item.name)
        else:
            move_into_place(made_item, target / made_item.name, overwrite=True)
    return record


def check_unclaimed(out: Path, entry: BatchEntry, *, overwrite: bool) -> None:
    """Raises :class:`OutputExistsError` for an output that exists and that no batch has made."""
    path = out / entry.output
    if not overwrite and path.exists() and read_record(out, entry.output) is None:
        raise OutputExistsError(f"{path}: already exists, and no batch has written it; use --overwrite or another name")


def work_folder(out: Path, token: str) -> Path:
    """An empty folder for an unfinished output, on the file system of ``out``."""
    folder = out / STATE_FOLDER / "unfinished" / token
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def remove_unfinished(out: Path) -> None:
    """Removes what killed workers left; only while no worker runs."""
    shutil.rmtree(out / STATE_FOLDER / "unfinished", ignore_errors=True)


def _files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hashed_file(path: Path, name: str) -> OutputFile:
    """The size and the hash of a file, which the record knows by ``name``. Raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file.fileno()):
            digest.update(chunk)
        return OutputFile(name, digest.hexdigest(), os.fstat(file.fileno()).st_size)


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK):
        yield chunk
