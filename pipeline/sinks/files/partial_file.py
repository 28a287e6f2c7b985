"""Output files that are written as ``NAME.partial.SUFFIX`` and renamed when they are complete."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fusepipe.core.errors import DiskFullError, OutputExistsError, SinkError
from fusepipe.core.files import move_into_place, why_unwritable

REMOVED = "the file was removed, moved or replaced while it was being written"


def write_error(message: str, cause: BaseException) -> SinkError:
    """The error for a failed write: :class:`DiskFullError` without space or quota, else :class:`SinkError`."""
    full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return DiskFullError(message) if full else SinkError(message)


class PartialFile:
    """An output file under its temporary name, from creation to renaming.

    An existing ``.partial`` file is the only copy of the recording of an interrupted run: it counts as an existing
    output.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._overwrite = overwrite
        self._descriptor: int | None = None

    def check(self) -> None:
        """Raises :class:`SinkError` if it cannot be written; changes nothing."""
        try:
            self._check()
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _check(self) -> None:
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder; name a file such as {self.path / 'fused.mkv'}")
        if problem := why_unwritable(self.path):
            raise SinkError(f"{self.path}: {problem}")
        parent = next(p for p in self.path.absolute().parents if p.exists())
        max_bytes = os.pathconf(parent, "PC_NAME_MAX")
        if len(os.fsencode(self.partial.name)) > max_bytes:
            raise SinkError(f"{self.path}: the name is too long: more than {max_bytes} bytes with .partial")
        if in_use(self.partial):
            raise OutputExistsError(f"{self.partial}: is being written by another run; use another name")
        if self._overwrite:
            return
        if self.path.exists():
            raise OutputExistsError(f"{self.path}: already exists; use --overwrite or another name")
        if self.partial.exists():
            playable = ", still playable" if _plays(self.partial) else ""
            raise OutputExistsError(
                f"{self.partial}: left over from an interrupted run{playable}; move it away or use --overwrite"
            )

    def claim(self) -> None:
        """Creates and locks the partial file, which must not exist: two runs never write to one file."""
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            self.partial.unlink(missing_ok=True)
        try:
            self._descriptor = os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileExistsError, BlockingIOError) as error:
            raise OutputExistsError(f"{self.partial}: is being written by another run") from error

    @property
    def claimed(self) -> bool:
        return self._descriptor is not None

    def append(self, data: bytes) -> None:
        """Appends all of ``data`` or, if the disk is full, nothing. Raises ``OSError``."""
        assert self._descriptor is not None
        end = os.fstat(self._descriptor).st_size
        try:
            written = os.pwrite(self._descriptor, data, end)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.partial))
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    @property
    def in_place(self) -> bool:
        """Whether the file that is being written is still under its name: not removed, moved or replaced."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.partial.stat())
        except OSError:
            return False

    def sync(self) -> None:
        """Flushes the file to disk (``fdatasync``). Raises ``FileNotFoundError`` if it is not :attr:`in_place`."""
        if self._descriptor is None:
            return
        os.fdatasync(self._descriptor)
        if not self.in_place:
            raise FileNotFoundError(errno.ENOENT, REMOVED, str(self.partial))

    def commit(self) -> int:
        """Gives the file its final name; returns its size in bytes.

        Raises ``FileExistsError`` if a file of this name was created in the meantime and must not be overwritten.
        """
        if self._descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "the file was not created", str(self.partial))
        self.sync()
        size = os.fstat(self._descriptor).st_size
        move_into_place(self.partial, self.path, overwrite=self._overwrite)
        self.release()
        return size

    def discard(self) -> None:
        """Removes the partial file, which contains no frames."""
        if self.in_place:
            self.partial.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Closes the descriptor, which releases the lock, and keeps the partial file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _plays(path: Path) -> bool:
    """Whether the first frame of a video can be decoded."""
    import av

    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (OSError, ValueError, IndexError, av.FFmpegError):
        return False


def in_use(partial: Path) -> bool:
    """Whether a run holds the lock of a partial file; false for symbolic links and missing files."""
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
