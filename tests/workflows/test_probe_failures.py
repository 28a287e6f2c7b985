"""``fusepipe probe`` of cameras that cannot be reached."""

import pytest
from peers.http_camera import HttpCamera

from fusepipe.cli import main
from fusepipe.core.errors import SourceError


def test_all_cameras_that_cannot_be_reached_are_named(capsys):
    with HttpCamera("unauthorized") as locked, pytest.raises(SystemExit) as caught:
        main(["probe", url := locked.url, "http://u:secret@127.0.0.1:1/vis.mjpg"])
    assert caught.value.code == SourceError.exit_code
    said = capsys.readouterr().err
    assert f"fusepipe: error: {url}: authentication failed" in said
    assert "; http://***@127.0.0.1:1/vis.mjpg: connection refused" in said
