"""``decoder`` of a rig's cameras and of ``fuse``: what it refuses, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import FusepipeError, SourceError, UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.decoders.hardware import decoder_problem
from fusepipe.pipeline.sources.decoders.kinds import HARDWARE
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.from_options import rig_from_options


def camera(url: str, decoder: str) -> object:
    rig = rig_from_options({"name": "a", "infrared": {"url": url, "decoder": decoder}, "visible": {"url": url}})
    return make_source(rig.infrared, Band.INFRARED, "a")


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:1/x", "video.mkv"])
def test_a_decoder_that_is_not_here_is_one_line_with_the_fix(url: str, tmp_path: Path) -> None:
    if not decoder_problem(HARDWARE[0]):
        pytest.skip("there is a GPU that decodes")
    if "://" not in url:
        (tmp_path / url).write_bytes(b"")
        url = str(tmp_path / url)
    with pytest.raises(SourceError, match=r"decoder: nvdec does not work here: .*; decoder: auto decodes in software"):
        camera(url, "nvdec")
    assert camera(url, "software") is not None and camera(url, "auto") is not None


def test_a_decoder_is_for_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="decoder is for video files and cameras; remove it"):
        camera("synthetic://street", "software")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    for path in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(SourceError, match="decoder: nvdec is for video; remove it"):
            camera(str(path), "nvdec")
    with pytest.raises(FusepipeError, match="'cuvid'"):
        camera("video.mkv", "cuvid")


def test_fuse_exits_with_3_and_one_line(tmp_path: Path, ffmpeg: str) -> None:
    if not decoder_problem(HARDWARE[0]):
        pytest.skip("there is a GPU that decodes")
    for name in ("ir.mkv", "vis.mkv"):
        pattern = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=1", "-c:v", "ffv1"]
        subprocess.run([ffmpeg, "-v", "error", *pattern, name], cwd=tmp_path, check=True, timeout=60)
    command = [sys.executable, "-m", "fusepipe", "fuse", "ir.mkv", "vis.mkv", "-o", "out.mkv", "--model", "max"]
    for decoder, code in (("nvdec", 3), ("software", 0)):
        done = subprocess.run(
            [*command, "--decoder", decoder], cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == code, done.stderr
        assert ("nvdec does not work here" in done.stderr) == (code == 3), done.stderr
