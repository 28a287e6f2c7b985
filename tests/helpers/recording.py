"""Recordings for tests: frames, a recorder, and what ffprobe finds in its files."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.segment_names import SegmentNames
from fusepipe.pipeline.sinks.files.recording import RecordingRules, RecordingSink
from fusepipe.pipeline.sinks.files.retention import Bounds
from fusepipe.pipeline.sinks.files.video import VideoOptions
from fusepipe.pipeline.testing import MS, frame

S = 1_000_000_000
NOISE = np.random.default_rng(7)
ENGINE = {"model": "stream", "backend": "openvino", "precision": "fp32", "device": "cpu"}


def fused(index, *, size=(64, 48), start_ns=0, step_ns=40 * MS, noise=False):
    """Frame ``index`` of a run that begins at ``start_ns``; infrared is 3 ms late and numbered from 1000."""
    shape = size[::-1]
    pixels = NOISE.integers(0, 256, shape, dtype=np.uint8) if noise else np.full(shape, index % 200, np.uint8)
    capture_ns = start_ns + index * step_ns
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=pixels)
    infrared = frame(Band.INFRARED, 1000 + index, capture_ns + 3 * MS, pixels=pixels)
    pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible, 3 * MS)
    return FusedFrame(pair, (Plane(pixels),), PairState.FUSED, index, capture_ns, visible.pts, visible.time_base)


def recorder(pattern, *, live=False, codec="h264", sidecar=True, **rules):
    bounds = Bounds(rules.pop("max_age_ns", None), rules.pop("max_total_bytes", None))
    return RecordingSink(
        SegmentNames(str(pattern), utc=True),
        VideoOptions(codec=codec),
        RecordingRules(**rules, bounds=bounds),
        live=live,
        engine=lambda: ENGINE,
        sidecar=sidecar,
        fps=25,
    )


def packets(path):
    """(seconds, whether a key frame) of each packet, as read by ffprobe."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("ffprobe is not installed (apt-get install ffmpeg)")
    words = [program, "-v", "error", "-show_entries", "packet=pts_time,flags", "-of", "json", path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return [(float(p["pts_time"]), "K" in p["flags"]) for p in json.loads(done.stdout)["packets"]]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def videos(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".mkv", ".mp4"))
