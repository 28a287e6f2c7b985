"""The engine store: engines are published atomically and built by one process at a time.

An engine is a plan, its manifest and, for inspection, the graph it was compiled from. All are written under temporary
names and then renamed, the manifest last: without a manifest an engine does not exist.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fusepipe.core.errors import EngineError
from fusepipe.core.files import remove_leftovers, write_together
from fusepipe.core.folders import cache_folder
from fusepipe.engines.manifest import Manifest, graph_path, manifest_path, read_manifest

LOCK_WAIT_S = 1800.0
"""How long a build waits for another process that builds the same engine; TensorRT may take that long."""
# The lock is polled as flock has no time limit: a blocking one could end only by a signal, which may come in no thread
# but the main one and would take a handler from the caller, or by a thread that stays behind when the wait is over.
_POLL_S = 0.1
SUFFIXES = {"tensorrt": ".plan", "tensorrt-rtx": ".plan", "openvino": ".onnx"}


def engines_folder() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/fusepipe/engines``."""
    return cache_folder("engines")


def engine_name(model: str, backend: str, precision: str, key: str) -> str:
    """The name of the plan in the cache; ``key`` is a text of everything the engine depends on."""
    return f"{model}-{backend}-{precision}-{hashlib.sha256(key.encode()).hexdigest()[:12]}{SUFFIXES[backend]}"


def publish(plan: Path, content: bytes, manifest: Manifest, graph: bytes | None) -> None:
    """Writes an engine; on failure removes what was written and raises :class:`EngineError`.

    Call it within :func:`build_lock`. ``graph`` is ``None`` if it is the plan itself.
    """
    files = [(plan, content), (manifest_path(plan), manifest.text().encode())]
    if graph is not None:
        files.insert(0, (graph_path(plan), graph))
    try:
        plan.parent.mkdir(parents=True, exist_ok=True)
        write_together(dict(files))
    except OSError as error:
        raise EngineError(f"{plan}: cannot be written ({error.strerror or error})") from error


def require_writable(plan: Path) -> None:
    """Raises :class:`EngineError` if an engine cannot be written: checked before the build, not after it."""
    folder = plan.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise EngineError(f"{plan}: cannot be written ({folder} is not a folder)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EngineError(f"{plan}: cannot be written ({folder} is not writable)")
    for path in (plan, manifest_path(plan), graph_path(plan)):
        if path.is_dir():
            raise EngineError(f"{plan}: cannot be written ({path} is a folder)")


@contextmanager
def build_lock(plan: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Exclusive lock for building ``plan``; waits up to ``wait_s`` for another process.

    Removes the temporary files of killed builds. Raises :class:`EngineError` if the lock is not free in time.
    """
    with _lock_file(plan) as file:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise EngineError(
                        f"{plan}: another process has been building it for {wait_s:g} s; wait for it or stop it"
                    ) from error
                time.sleep(_POLL_S)
        for path in (plan, manifest_path(plan), graph_path(plan)):
            remove_leftovers(path)
        yield


def _lock_file(plan: Path) -> IO[bytes]:
    """The lock file: not in the engine's folder, which belongs to the user.

    In the shared temporary folder only a folder owned by this user is used, and links are not followed.
    """
    name = hashlib.sha256(str(plan.absolute()).encode()).hexdigest()[:24]
    for folder in (engines_folder() / ".locks", Path(tempfile.gettempdir()) / f"fusepipe-{os.getuid()}-locks"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.lstat().st_uid != os.getuid():
                continue
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(folder / f"{name}.lock", flags, 0o600), "rb+", buffering=0)
        except OSError:  # the home is not writable: try the next folder
            continue
    raise EngineError("no writable folder for lock files; set XDG_CACHE_HOME to one")


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """One engine of a folder. ``manifest`` is ``None`` if it is damaged; ``problem`` is the reason, or empty."""

    plan: Path
    manifest: Manifest | None
    size_bytes: int
    modified_s: float
    problem: str = ""


def stored_engines(folder: Path | None = None) -> list[StoredEngine]:
    """The engines of a folder, newest first; damaged ones are listed with the reason."""
    folder = folder or engines_folder()
    found = []
    for sidecar in folder.glob("*.json"):
        plan = sidecar.with_suffix("")
        try:
            status = plan.stat()
        except OSError:
            with contextlib.suppress(EngineError):  # another JSON file
                found.append(StoredEngine(plan, read_manifest(plan), 0, sidecar.stat().st_mtime, "its plan is missing"))
            continue
        try:
            manifest = read_manifest(plan)
            problem = (
                "" if status.st_size == manifest.plan_bytes else "the size of its plan differs from the verified one"
            )
        except EngineError as error:
            manifest, problem = None, str(error)
        found.append(StoredEngine(plan, manifest, status.st_size, status.st_mtime, problem))
    return sorted(found, key=lambda entry: -entry.modified_s)


def find_engines(
    model: str, backend: str, precision: str, onnx_sha256: str, folder: Path | None = None
) -> list[StoredEngine]:
    """Undamaged engines of these weights, newest first; ``precision`` may be ``auto``."""
    return [
        entry
        for entry in stored_engines(folder)
        if entry.manifest is not None
        and not entry.problem
        and (entry.manifest.model, entry.manifest.backend) == (model, backend)
        and precision in ("auto", entry.manifest.achieved_precision)
        and entry.manifest.onnx_sha256 == onnx_sha256
    ]
