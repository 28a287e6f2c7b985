"""Decoded luma images on disk, so that every image is decoded once and not for every crop.

An image is kept as an uncompressed, memory-mapped array: a crop reads only its own pages, worker processes share them
through the system's page cache, and later runs find them. The key is the content of the image's file, so a copy of the
data finds what was kept, and a changed image is decoded again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.train.data.array_cache import ArrayCache
from fusepipe.train.data.training_images import read_training_luma, reduced, refuse_test_data


class DecodedImages:
    """Images by path, reduced to ``max_side_px``."""

    def __init__(self, max_side_px: int, folder: Path | None = None) -> None:
        self._max_side_px = max_side_px
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}  # by path: size and modification time, hash
        self.arrays = ArrayCache(folder)

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
