"""Files that appear complete: written under ``NAME.partial.SUFFIX`` and renamed when they are done."""

from __future__ import annotations

import os
from pathlib import Path

from fusepipe.errors import OutputExistsError, SinkError


class PartialFile:
    """The working name of an output file, from claiming it to renaming it.

    A ``.partial`` file that is there already is the only copy of what a killed run had recorded: it
    counts as an existing output.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._overwrite = overwrite
        self._descriptor: int | None = None

    def check(self) -> None:
        """Raises :class:`SinkError` for what can be known before writing; changes nothing."""
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder; name a file such as {self.path / 'fused.mkv'}")
        parent = next(p for p in self.path.absolute().parents if p.exists())
        if not parent.is_dir():
            raise SinkError(f"{self.path}: {parent} is a file, not a folder")
        if not os.access(parent, os.W_OK):
            raise SinkError(f"{self.path}: no permission to write in {parent}")
        if self._overwrite:
            return
        if self.path.exists():
            raise OutputExistsError(f"{self.path}: exists already; use --overwrite or another name")
        if self.partial.exists():
            raise OutputExistsError(
                f"{self.partial}: is left of a run that was killed, and plays; move it away, or use --overwrite"
            )

    def claim(self) -> None:
        """Creates the partial file; it must be new, so that two runs never write to one file."""
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            self.partial.unlink(missing_ok=True)
        try:
            self._descriptor = os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError as error:
            raise OutputExistsError(f"{self.partial}: another run is writing it") from error

    def sync(self) -> None:
        """What was written is on the disk, whatever happens to the power next."""
        if self._descriptor is not None:
            os.fdatasync(self._descriptor)

    def commit(self) -> int:
        """Renames to the final name; the size in bytes."""
        self.release()
        size = self.partial.stat().st_size
        os.replace(self.partial, self.path)  # noqa: PTH105 - atomic, also over an existing file
        return size

    def release(self) -> None:
        """Closes the descriptor and leaves the partial file where it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
