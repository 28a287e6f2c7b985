"""Arrays on disk by key, each made once, in one folder that all trainings share and that each keeps small.

Processes may use the folder at the same time: files are written atomically, and one that another process removes stays
readable where it is open, and is made again where it is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError
from fusepipe.core.files import atomic_file
from fusepipe.core.folders import cache_folder

LIMIT_BYTES = 4 * 1024**3
"""Size of the folder that :meth:`ArrayCache.trim` leaves: ten times what the students' training pairs take."""
_WRITTEN_NS = 3600 * 10**9  # a temporary file that is older was left by a killed process


class ArrayCache:
    """The arrays in ``folder``, by default ``~/.cache/fusepipe/training``; it is created when the first one is kept.

    The modification time of a file is when its array was last used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder("training")

    def get(self, key: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The array of this key, read-only and memory-mapped, else the one that ``make`` returns, after keeping it.

        Raises :class:`SourceError` for a full or read-only folder.
        """
        kept = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        try:
            array = np.asarray(np.load(kept, mmap_mode="r"))
        except (OSError, ValueError):  # missing, or truncated by a full disk: made again
            array = make()
        else:
            with contextlib.suppress(OSError):  # removed meanwhile, or read-only: the array is open
                os.utime(kept)
            return array
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(kept, durable=False) as file:  # one that a power failure cut off is made again
                np.save(file, array)
        except OSError as error:
            raise SourceError(
                f"cannot keep decoded images in {self._folder} ({error.strerror}): make room, or name another "
                "folder with XDG_CACHE_HOME"
            ) from error
        return array

    def trim(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Removes the least recently used files down to this size, those that killed processes left included.

        For the start of a training: what it needs itself may exceed the limit, and is not made again for every crop.
        """
        written_ns = time.time_ns() - _WRITTEN_NS
        used: list[tuple[int, int, Path]] = []
        with contextlib.suppress(OSError):  # no folder yet
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # another process removed or renamed it
                    found = path.stat()
                    if path.suffix == ".npy" or found.st_mtime_ns < written_ns:
                        used.append((found.st_mtime_ns, found.st_size, path))
        total_bytes = sum(size for _, size, _ in used)
        for _, size, path in sorted(used):
            if total_bytes <= limit_bytes:
                break
            with contextlib.suppress(OSError):  # read-only: then it does not grow either
                path.unlink(missing_ok=True)
            total_bytes -= size
