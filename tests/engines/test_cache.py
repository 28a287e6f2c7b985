"""The cache of compiled networks: optional, and never an obstacle."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fusepipe.engines import cache as cache_module
from fusepipe.engines.cache import CompileCache


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    cache = CompileCache(tmp_path / "deep" / "folder")
    assert cache.load("key") is None
    cache.store("key", b"blob")
    assert CompileCache(tmp_path / "deep" / "folder").load("key") == b"blob"
    assert cache.load("another key") is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, damage: bytes) -> None:
    cache = CompileCache(tmp_path)
    cache.store("key", b"blob")
    cache.path("key").write_bytes(damage)
    assert cache.load("key") is None
    cache.store("key", b"blob")
    assert cache.load("key") == b"blob"


def test_a_folder_that_cannot_be_used_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = CompileCache(blocked / "folder")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert cache.load("key") is None
            cache.store("key", b"blob")
    assert len(caplog.records) == 1
    assert "XDG_CACHE_HOME" in caplog.text


def test_the_folder_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_FILES", 3)
    cache = CompileCache(tmp_path)
    for number in range(10):
        cache.store(str(number), b"blob")
    assert len(list(tmp_path.iterdir())) == 3
