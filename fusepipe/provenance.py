"""What made a result: the command line and the versions of what computed it."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata

from fusepipe import __version__

_COMPUTES = ("numpy", "opencv-python-headless", "openvino", "scipy", "scikit-learn", "scikit-image")


def versions() -> dict[str, str]:
    """Name -> version of fusepipe, Python and the installed libraries that numbers depend on."""
    found = {"fusepipe": __version__, "Python": platform.python_version()}
    for name in _COMPUTES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as it can be typed again."""
    words = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["fusepipe", *words])
