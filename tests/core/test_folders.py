"""The folders of caches and data, by the XDG Base Directory Specification."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from fusepipe.core.folders import cache_folder, data_folder

FOLDERS = [(cache_folder, "XDG_CACHE_HOME", ".cache"), (data_folder, "XDG_DATA_HOME", ".local/share")]


@pytest.mark.parametrize(("folder", "variable", "default"), FOLDERS)
def test_the_folder_follows_xdg(
    folder: Callable[[str], Path], variable: str, default: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder("openvino") == tmp_path / "fusepipe" / "openvino"
    for ignored in ("relative", ""):
        monkeypatch.setenv(variable, ignored)
        assert folder("openvino") == Path.home() / default / "fusepipe" / "openvino"


@pytest.mark.parametrize("folder", [cache_folder, data_folder])
def test_without_a_home_nothing_can_be_created(folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*args: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    monkeypatch.setattr(platformdirs, "user_data_path", no_home)
    assert folder("x") == Path(os.devnull) / "fusepipe" / "x"
    with pytest.raises(OSError):
        folder("x").mkdir(parents=True)
