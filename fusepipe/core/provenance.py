"""The provenance of a result: command line and library versions."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from importlib import metadata

import click

from fusepipe.core.version import __version__

_COMPUTES = ("numpy", "opencv-python-headless", "openvino", "scipy", "scikit-learn", "scikit-image")


def versions() -> dict[str, str]:
    """Name -> version of fusepipe, Python and the installed libraries that affect results."""
    found = {"fusepipe": __version__, "Python": platform.python_version()}
    for name in _COMPUTES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The running ``fusepipe`` command, quoted for a shell; also where ``cli.main`` was called from Python."""
    words: Sequence[str] = click.get_current_context().find_root().obj
    return shlex.join(["fusepipe", *words])
