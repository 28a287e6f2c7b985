"""The arrays that trainings keep on disk: what goes when the folder is too large, also beside other trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.training import require_training

torch = require_training()

from helpers.made_images import write

from fusepipe.core.folders import cache_folder
from fusepipe.train.configs.mfe import MfeConfig
from fusepipe.train.data.array_cache import LIMIT_BYTES, ArrayCache
from fusepipe.train.session.mfe import train_stage1

KB = np.zeros(1000, np.uint8)
FILE_BYTES = 1128  # with the header of NumPy's format


def keys_kept(cache: ArrayCache, keys: str) -> str:
    """Those of the keys whose arrays need not be made again; the others are, and not kept."""

    def missing() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        raise LookupError

    kept = ""
    for key in keys:
        try:
            cache.get(key, missing)
            kept += key
        except LookupError:
            continue
    return kept


def filled(folder: Path, keys: str) -> ArrayCache:
    """A cache with an array a key, in the order in which they were used, long ago."""
    cache = ArrayCache(folder)
    for second, key in enumerate(keys, 1):
        before = set(folder.glob("*"))
        cache.get(key, lambda: KB)
        (new,) = set(folder.glob("*")) - before
        assert new.stat().st_size == FILE_BYTES
        os.utime(new, (second, second))
    return cache


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    cache = filled(tmp_path, "abcd")
    assert keys_kept(ArrayCache(tmp_path), "a") == "a"  # which makes it the one used last
    cache.trim(2 * FILE_BYTES)
    assert keys_kept(cache, "abcd") == "ad"
    cache.trim(2 * FILE_BYTES)
    assert keys_kept(cache, "abcd") == "ad"


def test_what_a_killed_training_left_is_counted_and_goes(tmp_path: Path) -> None:
    cache = filled(tmp_path, "ab")
    left = tmp_path / ".c.npy.0123.partial"
    left.write_bytes(bytes(5 * FILE_BYTES))
    cache.trim(2 * FILE_BYTES)
    assert left.exists(), "another process may be writing it"
    os.utime(left, (0, 0))
    cache.trim(2 * FILE_BYTES)
    assert not left.exists() and keys_kept(cache, "ab") == "ab"


def test_an_array_in_use_stays_readable_when_it_is_removed(tmp_path: Path) -> None:
    cache = filled(tmp_path, "a")
    array = cache.get("a", lambda: KB)
    cache.trim(0)
    assert not list(tmp_path.iterdir()) and not array.any()
    assert np.array_equal(cache.get("a", lambda: KB), KB) and keys_kept(cache, "a") == "a"


def test_no_folder_yet_is_an_empty_one(tmp_path: Path) -> None:
    ArrayCache(tmp_path / "absent").trim(0)
    assert not (tmp_path / "absent").exists()


READER = """
import sys, pathlib, numpy as np
from fusepipe.train.data.array_cache import ArrayCache
cache, made = ArrayCache(pathlib.Path(sys.argv[1])), 0
def make(n):
    global made
    made += 1
    return np.full(1000, n, np.uint8)
for n in range(2000):
    assert (cache.get(str(n % 7), lambda: make(n % 7)) == n % 7).all()
print(made)
"""


def test_trainings_that_start_take_nothing_from_one_that_runs(tmp_path: Path) -> None:
    """Each array is what was asked for, although another process removes them all again and again."""
    cache = ArrayCache(tmp_path)
    with subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as reader:
        while reader.poll() is None:
            cache.trim(0)
        assert reader.stdout is not None and reader.returncode == 0
        assert int(reader.stdout.read()) > 7


def test_a_training_trims_the_cache_when_it_starts(tmp_path: Path) -> None:
    old = cache_folder("training") / "old.npy"
    old.parent.mkdir(parents=True)
    with old.open("wb") as file:
        file.truncate(LIMIT_BYTES + 1)  # takes no room on the disk
    os.utime(old, (0, 0))
    for number in range(3):
        write(tmp_path / "photos" / f"{number}.png", seed=number)
    stage = {"steps": 1, "batch": 1, "crop_px": 32, "validate_every": 1, "workers": 0}
    train_stage1(MfeConfig.model_validate({"stage1": stage}), tmp_path / "photos", tmp_path / "out", device="cpu")
    assert not old.exists() and list(old.parent.iterdir())
