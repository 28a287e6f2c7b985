"""What ``benchmarks/measure_loading`` prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.made_images import write
from helpers.training import require_training

require_training()

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "measure_loading"


def measured(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--data", data, *words]
    environment = {**os.environ, "XDG_CACHE_HOME": str(data.parent / "cache")}  # where decoded images are kept
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


def test_time_per_batch_is_printed(tmp_path: Path) -> None:
    for band, seed in (("ir", 1), ("vis", 2)):
        for number in range(3):
            write(tmp_path / "data" / "made" / band / f"{number}.png", seed=seed + 10 * number)
    words = ["--pairs", "folders", "--batch", "2", "--crop-px", "32", "--steps", "2"]
    done = measured(tmp_path / "data", *words, "--workers", "0")
    assert done.returncode == 0 and done.stdout.count("ms a batch of 2 pairs of 32x32") == 2, done.stderr


def test_missing_pairs_are_one_line(tmp_path: Path) -> None:
    done = measured(tmp_path)
    assert done.returncode == 1 and str(tmp_path) in done.stderr and done.stderr.count("\n") == 1
