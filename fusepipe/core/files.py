"""The last step of writing a file: giving it its name, all at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Renames a complete file to its final name; without ``overwrite`` never over a file that is there.

    Raises ``FileExistsError`` in that case and leaves ``temporary`` where it is.
    """
    if overwrite:
        os.replace(temporary, path)  # noqa: PTH105 - atomic, also over an existing file
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without links, such as FAT: the best that can be had
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.replace(temporary, path)  # noqa: PTH105
    else:
        temporary.unlink()
