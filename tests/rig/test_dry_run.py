"""``run --dry-run`` says what the run would warn of."""

from __future__ import annotations

import json

import pytest

from fusepipe.cli import main

RIG = """schema: 1
rigs:
  w:
    infrared: {url: "synthetic://street?band=infrared&size=160x64&fps=10&duration=1s"}
    visible:  {url: "http://127.0.0.1:1/video.mjpg"}
    fusion: {model: mean}
    sinks: [{file: w.mkv}]
"""
STREET = "synthetic://street?band=visible&size=160x120&fps=10&duration=1s"


def dry_run(place, text, *options):
    """Exit code 0 is required."""
    (place / "rigs.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--rig", str(place / "rigs.yaml"), "--dry-run", *options])
    assert ended.value.code == 0


def test_a_stretched_image_is_warned_of(tmp_path, capsys):
    dry_run(tmp_path, RIG.replace("http://127.0.0.1:1/video.mjpg", STREET))
    assert "  warning: infrared 160x64 and visible 160x120 differ in shape" in capsys.readouterr().out


def test_a_camera_that_is_not_there_is_warned_of(tmp_path, capsys):
    live = RIG.replace("duration=1s", "duration=1s&pace=real")
    dry_run(tmp_path, live)
    assert "  visible: http://127.0.0.1:1/video.mjpg not connected" in capsys.readouterr().out
    dry_run(tmp_path, live, "--json")
    said = json.dumps(json.loads(capsys.readouterr().out))
    assert "visible: http://127.0.0.1:1/video.mjpg was not available at the start: connection refused" in said
