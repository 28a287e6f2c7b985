"""A visible recording whose size changes in the middle of the file."""

import json
import subprocess

import pytest
from helpers.video_files import read


@pytest.fixture
def recordings(ffmpeg, tmp_path):
    """Infrared of two seconds, and visible whose second second is half as large, as a camera that was set."""
    parts = b""
    for name, options in (
        ("ir.mkv", ["-i", "testsrc=s=320x240:r=25:d=2", "-pix_fmt", "gray", "-c:v", "ffv1"]),
        ("1.ts", ["-i", "testsrc=s=320x240:r=25:d=1", "-c:v", "libx264", "-bf", "0", "-f", "mpegts"]),
        ("2.ts", ["-i", "testsrc=s=160x120:r=25:d=1", "-c:v", "libx264", "-bf", "0", "-output_ts_offset", "1"]),
    ):
        command = [ffmpeg, "-v", "error", "-f", "lavfi", *options, str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=60)
        parts += (tmp_path / name).read_bytes() if name.endswith(".ts") else b""
    (tmp_path / "vis.ts").write_bytes(parts)
    return tmp_path


@pytest.mark.parametrize("output", ["o.mkv", "o.mp4", "frames/"])
def test_it_keeps_its_first_size(fuse, recordings, output):
    inputs = recordings / "ir.mkv", recordings / "vis.ts"
    code, out, err = fuse(*inputs, "-o", f"{recordings}/{output}", "--model", "mean", "--json")
    assert code == 0, err
    warnings = [text for text in json.loads(out)["rigs"][0]["warnings"] if "size changed" in text]
    assert warnings == ["visible: frame size changed to 160x120; scaled to the output's 320x240"]
    if not output.endswith("/"):
        frames = read(recordings / output)
        assert len(frames) >= 49 and {(f.width, f.height) for f in frames} == {(320, 240)}
        assert frames[-1].luma.pixels.std() > 30, "scaled, not blank"
