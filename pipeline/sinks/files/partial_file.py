"""Files that appear complete: written under ``NAME.partial.SUFFIX`` and renamed when they are done."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fusepipe.core.errors import DiskFullError, OutputExistsError, SinkError
from fusepipe.core.files import publish


def write_error(message: str, cause: BaseException) -> SinkError:
    """The error for a write that failed: a :class:`DiskFullError` where no space, or no quota, was left."""
    full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return DiskFullError(message) if full else SinkError(message)


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
        try:
            self._check()
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _check(self) -> None:
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder; name a file such as {self.path / 'fused.mkv'}")
        parent = next(p for p in self.path.absolute().parents if p.exists())
        if not parent.is_dir():
            raise SinkError(f"{self.path}: {parent} is a file, not a folder")
        if not os.access(parent, os.W_OK):
            raise SinkError(f"{self.path}: no permission to write in {parent}")
        longest = os.pathconf(parent, "PC_NAME_MAX")
        if len(os.fsencode(self.partial.name)) > longest:
            raise SinkError(f"{self.path}: the name is too long; with .partial it has more than {longest} bytes")
        if in_use(self.partial):
            raise OutputExistsError(f"{self.partial}: another run is writing it; wait for that or use another name")
        if self._overwrite:
            return
        if self.path.exists():
            raise OutputExistsError(f"{self.path}: exists already; use --overwrite or another name")
        if self.partial.exists():
            raise OutputExistsError(
                f"{self.partial}: is left of a run that was killed, and plays; move it away, or use --overwrite"
            )

    def claim(self) -> None:
        """Creates the partial file and locks it; it must be new, so that two runs never write to one file."""
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            self.partial.unlink(missing_ok=True)
        try:
            self._descriptor = os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileExistsError, BlockingIOError) as error:
            raise OutputExistsError(f"{self.partial}: another run is writing it") from error

    @property
    def claimed(self) -> bool:
        return self._descriptor is not None

    def append(self, data: bytes) -> None:
        """Writes all of ``data`` to the end, or, where the disk is full, nothing of it. Raises ``OSError``."""
        assert self._descriptor is not None
        end = os.fstat(self._descriptor).st_size
        try:
            written = os.pwrite(self._descriptor, data, end)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.partial))
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def sync(self) -> None:
        """What was written is on the disk, whatever happens to the power next."""
        if self._descriptor is not None:
            os.fdatasync(self._descriptor)

    def commit(self) -> int:
        """Gives the file its final name; the size in bytes.

        Raises ``FileExistsError`` where the name was taken meanwhile and may not be overwritten.
        """
        if self._descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "the file was never claimed", str(self.partial))
        self.sync()
        ours, there = os.fstat(self._descriptor), self.partial.stat()
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            raise FileNotFoundError(errno.ENOENT, "somebody replaced the partial file", str(self.partial))
        publish(self.partial, self.path, overwrite=self._overwrite)
        self.release()
        return there.st_size

    def discard(self) -> None:
        """Removes the partial file, which has nothing in it that anybody could want."""
        if self._descriptor is not None:
            self.partial.unlink(missing_ok=True)
            self.release()

    def release(self) -> None:
        """Closes the descriptor, which frees the lock, and leaves the partial file where it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def in_use(partial: Path) -> bool:
    """Whether a run holds the lock of a partial file; a link or no file at all is in nobody's use."""
    try:
        descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
