"""What ``benchmarks/measure_local_alignment`` prints and draws."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "measure_local_alignment"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_the_overlay_shows_what_local_alignment_moved(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).normal(size=(240, 320))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    visible = np.clip(smooth / smooth.std() * 40 + 128, 0, 255).astype(np.uint8)
    for band, image in (("ir", np.roll(255 - visible, 3, axis=1)), ("vis", visible)):
        (tmp_path / band).mkdir()
        for name in ("1", "2"):
            cv2.imwrite(str(tmp_path / band / f"{name}.png"), image)
    overlay = tmp_path / "overlay.png"
    size = ("--size", 320, 240, "--repeats", 5)
    done = run(tmp_path / "ir", tmp_path / "vis", *size, "--plane", 12, "--plane", 9, "--overlay", overlay)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"320x240, 2 pairs 5 times: [\d.]+ ms of CPU time a pair, with local alignment [\d.]+ ms: [+-][\d.]+ ms, "
        r"and with planes at 12, 9 px [\d.]+ ms: [+-][\d.]+ ms\n",
        done.stdout,
    )
    drawn = cv2.imread(str(overlay)).astype(np.float64)
    assert drawn.shape == (240, 960, 3)
    apart = [np.abs(part[..., 1] - part[..., 2])[20:-20, 20:-20].mean() for part in np.split(drawn, 3, axis=1)]
    assert max(apart[1:]) < 0.5 * apart[0]  # both bands' edges lie on each other


def test_folders_without_a_common_stem_are_one_line(tmp_path: Path) -> None:
    for band in ("ir", "vis"):
        (tmp_path / band).mkdir()
        cv2.imwrite(str(tmp_path / band / f"{band}.png"), np.zeros((64, 64), np.uint8))
    done = run(tmp_path / "ir", tmp_path / "vis")
    assert done.returncode == 2 and "have no image of one stem" in done.stderr
