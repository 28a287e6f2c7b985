"""Atomic file writes: a reader sees the old file or the whole new one, never a part of it.

Every file that is written in one go is written here: to a temporary file in the same folder, synced to the disk,
then renamed. Files that grow for as long as a run lasts (videos, their sidecars) have a name of their own while they
are incomplete, see :mod:`fusepipe.pipeline.sinks.files.partial_file`, and share only :func:`move_into_place`.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MAX_STEM_BYTES = 200  # file systems take 255 bytes a name; the rest is for the temporary file's suffix


def move_into_place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Renames a complete file to its final name; without ``overwrite`` never over an existing file.

    Raises ``FileExistsError`` in that case and keeps ``temporary``.
    """
    if overwrite:
        temporary.replace(path)  # atomic, also over an existing file
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without links, such as FAT: this check is not atomic
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)
    else:
        temporary.unlink()


def why_unwritable(path: Path) -> str:
    """Why no file can be created at ``path``, whose folders may be missing; empty if it can.

    Tries it with a file without a name, since permissions say nothing about /proc or a read-only mount. A full disk is
    no reason: it may have space when the file is written.
    """
    parent = path.absolute().parent
    try:
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir():
            return f"{parent} is a file, not a folder"
        if not os.access(parent, os.X_OK):
            return f"no permission to write to {parent}"
        with tempfile.TemporaryFile(dir=parent):
            return ""
    except PermissionError:
        return f"no permission to write to {parent}"
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ""
        return f"no file can be created in {parent}: {error.strerror}"


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = True, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing, and publishes it as ``path`` at the end of the ``with`` block.

    ``durable`` syncs it to the disk first: without that, a power failure soon after the rename can leave an empty
    file. Caches that check what they read do without. On any error the temporary file is removed and ``path`` is
    unchanged. Raises ``OSError`` as the file system gives it, ``FileExistsError`` without ``overwrite``.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            yield file
            _sync(file, durable)
        move_into_place(temporary, path, overwrite=overwrite)
    finally:
        _remove(temporary)


def write_bytes(path: Path, content: bytes | memoryview, *, overwrite: bool = True, durable: bool = True) -> None:
    """Writes a whole file atomically; options and errors as :func:`atomic_file`."""
    with atomic_file(path, overwrite=overwrite, durable=durable) as file:
        file.write(content)


def utf8(text: str) -> bytes:
    """The bytes of a text; those of file names that are not UTF-8 are escaped."""
    return text.encode(errors="backslashreplace")


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Writes a whole UTF-8 file atomically; errors as :func:`atomic_file`."""
    write_bytes(path, utf8(text), overwrite=overwrite)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes files that are only valid together: all are on the disk before the first is renamed, in their order.

    An ``OSError`` before the first rename leaves the old files; one between two renames removes the files that were
    renamed already, so that old and new are never mixed.
    """
    temporaries = {path: _temporary(path) for path in contents}
    published: list[Path] = []
    try:
        for path, content in contents.items():
            with temporaries[path].open("xb") as file:
                file.write(content)
                _sync(file, True)
        for path, temporary in temporaries.items():
            move_into_place(temporary, path, overwrite=True)
            published.append(path)
    except OSError:
        for path in published:
            _remove(path)
        raise
    finally:
        for temporary in temporaries.values():
            _remove(temporary)


def replace_folder(new: Path, target: Path) -> None:
    """Renames the complete folder ``new`` to ``target``, on the same file system, in place of a folder there.

    The old folder is moved aside beside ``target`` and deleted only when the new one has its name. Whatever stops the
    renames, an interrupt included, moves it back. Raises ``OSError`` as the file system gives it.
    """
    old = _temporary(target)
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():  # else moving back failed as well: then it is the only copy
            _remove_folder(old)


def remove_leftovers(path: Path) -> None:
    """Removes temporary files of ``path`` that a killed process left; call it only where no other process writes."""
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}*.partial"):
        _remove(leftover)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.partial")


def _prefix(path: Path) -> str:
    """The start of the names of a file's temporary files: hidden, with as much of its own name as fits."""
    return f".{os.fsdecode(os.fsencode(path.name)[:_MAX_STEM_BYTES])}."


def _sync(file: BinaryIO, durable: bool) -> None:
    file.flush()
    if durable:
        os.fsync(file.fileno())


def _remove_folder(path: Path) -> None:
    if path.is_symlink():  # only the link: the folder that it names is not ours
        _remove(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it does not exist, or its folder does not
        path.unlink()
