"""Certificates of a rig's servers: checked by ``fusepipe validate``, and by ``run`` before cameras are opened."""

import re
from pathlib import Path

import pytest
from helpers.certificates import make_certificate
from helpers.ports import free_port

from fusepipe.cli import main
from fusepipe.config.rig_file import load_rig_file
from fusepipe.rig.api import Pipeline

RIG = """\
schema: 1
rigs:
  one:
    infrared: {url: "INFRARED"}
    visible: {url: "synthetic://street?band=visible&size=64x48&fps=25&duration=0.4s"}
    sinks:
      - {SINK, certificate: tls/server.crt, key: tls/server.key}
"""
INFRARED = "synthetic://street?band=infrared&size=64x48&fps=25&duration=0.4s"
SINKS = {"page": "preview: 'https://127.0.0.1:PORT'", "stream": "rtsp: 'rtsps://127.0.0.1:PORT/one'"}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "tls").mkdir()
    return make_certificate(tmp_path / "tls")


@pytest.fixture(params=SINKS.values(), ids=SINKS)
def sink(request):
    return request.param.replace("PORT", str(free_port()))


def written(folder: Path, sink: str, infrared: str = INFRARED) -> Path:
    file = folder / "rigs.yaml"
    file.write_text(RIG.replace("SINK", sink).replace("INFRARED", infrared))
    return file


def command(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_a_usable_certificate_is_valid(tmp_path, files, sink, capsys):
    code, out, err = command(capsys, "validate", written(tmp_path, sink))
    assert (code, err) == (0, "") and "note" not in out


def test_validate_names_line_key_and_fix(tmp_path, files, sink, capsys):
    make_certificate(tmp_path, "other").key.replace(files.key)
    code, out, err = command(capsys, "validate", written(tmp_path, sink))
    assert code == 2
    assert re.search(
        r"rigs\.yaml:7: rigs\.one\.sinks\[0\]\.key: .*/tls/server\.key: is not the private key of", err + out
    )


def test_a_missing_certificate_is_a_problem_of_the_rig_that_is_named(tmp_path, sink, capsys):
    file = written(tmp_path, sink)
    expected = "rigs.one.sinks[0].certificate: "
    code, out, _ = command(capsys, "validate", file)
    assert code == 0 and f"note: {file}:7: {expected}" in out and "tls/server.crt: certificate not found" in out
    code, out, err = command(capsys, "validate", file, "--name", "one")
    assert code == 2 and expected in err + out


def test_an_expired_certificate_is_a_note(tmp_path, files, sink, capsys):
    make_certificate(tmp_path / "tls", days=(-9, -2))
    code, out, _ = command(capsys, "validate", written(tmp_path, sink))
    assert code == 0 and "sinks[0].certificate: " in out and "server.crt: expired on " in out


def test_run_refuses_a_broken_certificate_before_it_opens_cameras(tmp_path, files, sink, capsys):
    files.certificate.write_text("no PEM")
    code, _, err = command(capsys, "run", "--rig", written(tmp_path, sink, "no-such-camera.mkv"))
    assert code == 2
    assert "rigs.one.sinks[0].certificate: " in err and "is not a certificate in PEM format" in err
    assert "no-such-camera" not in err


def test_a_run_serves_and_reports_what_should_be_mended(tmp_path, files, sink):
    files.key.chmod(0o644)
    [rig] = load_rig_file(written(tmp_path, sink)).select()
    report = Pipeline(rig).run()
    assert [warning for warning in report.warnings if "other users can read the private key" in warning]
    assert report.sinks[0]["sink"].startswith(("https://", "rtsps://"))
