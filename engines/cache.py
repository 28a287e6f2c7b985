"""The on-disk cache of compiled networks and kernels.

The cache is optional: if its folder cannot be read or written, one warning is logged and everything works without it.
Files are written atomically and contain their SHA-256, so that processes may share the folder and a damaged file counts
as absent.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from fusepipe.core.files import write_bytes
from fusepipe.core.folders import cache_folder

_LOG = logging.getLogger(__name__)
_DIGEST_BYTES = 32
MAX_FILES = 64
"""Number of files kept in the folder; the oldest are deleted first."""


class CompileCache:
    """Blobs by key in one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder("openvino")
        self._warned = False

    def path(self, key: str) -> Path:
        """The file of a key: a text of everything the blob depends on."""
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.blob"

    def load(self, key: str) -> bytes | None:
        """The blob; ``None`` if it is missing or damaged."""
        try:
            content = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return blob if hashlib.sha256(blob).digest() == digest else None

    def store(self, key: str, blob: bytes) -> None:
        """Stores a blob; if that fails, logs one warning per cache."""
        path = self.path(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bytes(path, hashlib.sha256(blob).digest() + blob, durable=False)  # load() checks the digest
            self._prune()
        except OSError as error:
            self._warn("write", error)

    def _prune(self) -> None:
        dated = []
        for path in self._folder.glob("*.blob*"):
            try:
                dated.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # another process pruned it
                continue
        for _, path in sorted(dated)[:-MAX_FILES]:
            path.unlink(missing_ok=True)

    def _warn(self, what: str, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "cannot %s the cache of compiled networks in %s (%s): each start compiles again; "
                "set XDG_CACHE_HOME to a folder that can be written",
                what,
                self._folder,
                error.strerror or error,
            )
