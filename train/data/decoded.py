"""Decoded luma images on disk, so that every image is decoded once and not for every crop.

An image is kept as an uncompressed, memory-mapped array: a crop reads only its own pages, worker processes share them
through the system's page cache, and later runs find them. The key is the content of the image's file, so a copy of the
data finds what was kept, and a changed image is decoded again. Nothing is removed; the folder may be deleted at any
time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError
from fusepipe.core.files import atomic_file
from fusepipe.core.folders import cache_folder
from fusepipe.core.frames import Luma8
from fusepipe.train.data.training_images import read_training_luma, reduced, refuse_test_data


class KeptArrays:
    """Arrays on disk by key, each made once; ``folder`` is created when the first one is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder("training")

    def get(self, key: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The array of this key, read-only and memory-mapped, else the one that ``make`` returns, after keeping it.

        Raises :class:`SourceError` for a full or read-only folder.
        """
        kept = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        try:
            return np.asarray(np.load(kept, mmap_mode="r"))
        except (OSError, ValueError):  # missing, or truncated by a full disk: made again
            array = make()
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


class DecodedImages:
    """Images by path, reduced to ``max_side_px``."""

    def __init__(self, max_side_px: int, folder: Path | None = None) -> None:
        self._max_side_px = max_side_px
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}  # by path: size and modification time, hash
        self.arrays = KeptArrays(folder)

    def key(self, path: Path) -> str:
        """What identifies the image's content at this size: the file is read when it is first met, and when it changes.

        Raises :class:`SourceError` where there is no such file and :class:`UsageError` inside TNO, of which a copy may
        have been decoded.
        """
        try:
            found = path.stat()
            state = found.st_size, found.st_mtime_ns
            known = self._hashes.get(path)
            if known is None or known[0] != state:
                refuse_test_data(path)
                with path.open("rb") as file:
                    known = state, hashlib.file_digest(file, "blake2b").hexdigest()
                self._hashes[path] = known
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        return f"{known[1]}\0{self._max_side_px}"

    def __getitem__(self, path: Path) -> Luma8:
        """HxW uint8, read-only. Raises as :meth:`key`, and :class:`SourceError` for a full or read-only cache."""
        return self.arrays.get(self.key(path), lambda: reduced(read_training_luma(path), self._max_side_px))
