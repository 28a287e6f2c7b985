"""Where fusepipe keeps its caches and data: the folders of the XDG Base Directory Specification."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "fusepipe"


def cache_folder(name: str) -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/fusepipe/NAME``: what may be deleted at any time.

    A relative ``XDG_CACHE_HOME`` is ignored, as the specification says. Without a home directory it is a folder that
    cannot be created, so that nothing is kept.
    """
    try:
        return platformdirs.user_cache_path(_APP) / name
    except RuntimeError:
        return Path(os.devnull) / _APP / name


def data_folder(name: str) -> Path:
    """``${XDG_DATA_HOME:-~/.local/share}/fusepipe/NAME``: what the user would miss; as :func:`cache_folder`."""
    try:
        return platformdirs.user_data_path(_APP) / name
    except RuntimeError:
        return Path(os.devnull) / _APP / name
