"""``fusepipe probe`` of cameras that cannot be reached."""

import pytest
from peers.http_camera import HttpCamera

from fusepipe.cli import main
from fusepipe.core.errors import SourceError


def test_a_thermal_camera_in_colours_is_named(capsys):
    """The infrared source drops its colours, which a run warns of."""
    with (
        HttpCamera("video", (20, 160, 60)) as infrared,
        HttpCamera("video", (40, 60, 140)) as visible,
        pytest.raises(SystemExit) as caught,
    ):
        main(["probe", url := infrared.url, visible.url, "--duration", "3s"])
    assert caught.value.code == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{url}: mjpeg 160x120 colour,")
    assert last.startswith(f"warning: infrared: {url} is in colour; if it is a thermal camera")


def test_all_cameras_that_cannot_be_reached_are_named(capsys):
    with HttpCamera("unauthorized") as locked, pytest.raises(SystemExit) as caught:
        main(["probe", url := locked.url, "http://u:secret@127.0.0.1:1/vis.mjpg"])
    assert caught.value.code == SourceError.exit_code
    said = capsys.readouterr().err
    assert f"fusepipe: error: {url}: authentication failed" in said
    assert "; http://***@127.0.0.1:1/vis.mjpg: connection refused" in said
