"""The terminal of a command: the width of a table."""

from __future__ import annotations

import shutil
import sys


def table_width() -> int | None:
    """Columns of the terminal; ``None`` where the output goes to a file or another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
