"""Certificate files of servers: what is wrong with them is one line that names the file and the fix."""

import logging
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.certificates import make_certificate

from fusepipe.core.errors import SinkSetupError
from fusepipe.pipeline.servers.certificate import (
    CertificateError,
    certificate_warnings,
    load_certificate,
    validity,
)
from fusepipe.pipeline.servers.tls import CHECK_S, ServerTls

x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography: pip install 'fusepipe[webrtc]'")

NOW = datetime.now(UTC)


def refusal(files):
    with pytest.raises(CertificateError) as caught:
        load_certificate(files)
    text = str(caught.value)
    assert "\n" not in text
    return caught.value


def test_a_certificate_and_its_key_are_loaded(tmp_path):
    files = make_certificate(tmp_path)
    assert load_certificate(files).minimum_version.name == "TLSv1_2"
    assert certificate_warnings(files, NOW) == []
    both = tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    load_certificate(replace(files, certificate=both, key=both))


@pytest.mark.parametrize("year", [2049, 2050, 9999])  # the two formats of times
def test_the_dates_of_a_certificate(tmp_path, year):
    days = ((datetime(year, 6, 1, tzinfo=UTC) - NOW).days, (datetime(year, 6, 9, tzinfo=UTC) - NOW).days)
    pem = make_certificate(tmp_path, days=days).certificate.read_bytes()
    read = x509.load_pem_x509_certificate(pem)
    assert validity(pem) == (read.not_valid_before_utc, read.not_valid_after_utc)
    assert validity(pem)[0].year == year


def _missing(files):
    files.certificate.unlink()
    return files


def _missing_key(files):
    files.key.unlink()
    return files


def _folder(files):
    return replace(files, certificate=files.certificate.parent)


def _other_key(files):
    return replace(files, key=make_certificate(files.key.parent, "other").key)


def _swapped(files):
    return replace(files, certificate=files.key, key=files.certificate)


def _key_is_a_certificate(files):
    return replace(files, key=make_certificate(files.key.parent, "other").certificate)


def _without_key(files):
    return replace(files, key=files.certificate)


def _text(files):
    files.certificate.write_text("certificate\n")
    return files


def _text_as_key(files):
    files.key.write_text("key\n")
    return files


def _garbled(files):
    files.certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return files


def _with_password(files):
    return make_certificate(files.key.parent, "locked", password=b"hunter2")


@pytest.mark.parametrize(
    ("change", "expected", "of_key"),
    [
        (_missing, "server.crt: certificate not found", False),
        (_missing_key, "server.key: private key not found", True),
        (_folder, "is a folder; name the PEM file of the certificate", False),
        (_other_key, "other.key: is not the private key of ", True),
        (_swapped, "server.key: holds a private key and no certificate; name it as key", False),
        (_key_is_a_certificate, "other.crt: holds a certificate and no private key", True),
        (_without_key, "server.crt: has no private key; name its file as key", False),
        (_text, "server.crt: is not a certificate in PEM format; convert it: openssl x509 -in ", False),
        (_text_as_key, "server.key: is not a private key in PEM format; convert it: openssl pkey -in ", True),
        (_garbled, "server.crt: cannot be used with ", False),
        (_with_password, "locked.key: the private key has a password; write it without one", True),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, expected, of_key):
    error = refusal(change(make_certificate(tmp_path)))
    assert expected in str(error) and error.of_key is of_key
    assert error.missing is ("not found" in expected)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_key_without_permission(tmp_path):
    files = make_certificate(tmp_path)
    files.key.chmod(0)
    assert "server.key: no permission to read the private key" in str(refusal(files))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("form", ["der", "p12", "password"])
def test_the_command_of_the_message_mends_it(tmp_path, form):
    files = make_certificate(tmp_path, password=b"hunter2" if form == "password" else None)
    if form == "der":
        run("openssl", "x509", "-in", files.certificate, "-outform", "der", "-out", tmp_path / "c.der")
        files = replace(files, certificate=tmp_path / "c.der")
    if form == "p12":
        given = ["-in", files.certificate, "-inkey", files.key, "-passout", "pass:"]
        run("openssl", "pkcs12", "-export", *given, "-out", tmp_path / "c.p12")
        files = replace(files, certificate=tmp_path / "c.p12")
    command = str(refusal(files)).partition(": (" if form == "password" else "convert it: ")[2].rstrip(")")
    command = command.replace("-noenc", "-noenc -passin pass:").replace("pkey ", "pkey -passin pass:hunter2 ")
    run("sh", "-c", command)
    written = Path(command.split()[-1])
    mended = replace(files, **({"key": written} if form == "password" else {"certificate": written}))
    assert load_certificate(mended).minimum_version.name == "TLSv1_2"


def run(*command):
    subprocess.run([str(part) for part in command], check=True, timeout=20, capture_output=True)


@pytest.mark.parametrize(
    ("days", "expected"),
    [((-9, -2), f"expired on {NOW - timedelta(days=2):%Y-%m-%d}: renew"), ((2, 9), "check the clock of this machine")],
)
def test_a_certificate_out_of_its_time_is_a_warning(tmp_path, days, expected):
    files = make_certificate(tmp_path, days=days)
    [warning] = certificate_warnings(files, NOW)
    assert expected in warning.message and not warning.of_key
    load_certificate(files)


def test_a_key_that_others_can_read_is_a_warning(tmp_path):
    files = make_certificate(tmp_path)
    files.key.chmod(0o644)
    [warning] = certificate_warnings(files, NOW)
    assert "server.key: other users can read the private key; deny it: chmod o= " in warning.message
    files.key.chmod(0o640)  # a group for such keys is common
    assert certificate_warnings(files, NOW) == []


# -- renewal


class Renewed:
    """Files whose certificate is renewed as certbot does, key first."""

    def __init__(self, folder):
        self.folder, self.now_s = folder, 0.0
        self.files = make_certificate(folder)
        self.tls = ServerTls(self.files, clock=lambda: self.now_s)

    def replace(self, *names):
        made = make_certificate(self.folder, "renewed")
        for name in names:
            getattr(made, name).replace(getattr(self.files, name))

    def later(self):
        self.now_s += CHECK_S
        return self.tls.context()


def test_a_renewed_certificate_is_used_within_a_minute(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "fusepipe")
    server = Renewed(tmp_path)
    first = server.tls.context()
    assert server.later() is first, "nothing has changed"
    server.replace("certificate", "key")
    server.now_s += CHECK_S - 1
    assert server.tls.context() is first, "looked at once a minute"
    renewed = server.later()
    assert renewed is not first and server.later() is renewed
    assert caplog.records == []


def test_a_broken_renewal_leaves_the_old_certificate_with_one_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "fusepipe")
    server = Renewed(tmp_path)
    first = server.tls.context()
    server.replace("key")
    assert [server.later() for _ in range(3)] == [first] * 3
    [record] = caplog.records
    assert "is not the private key of" in record.getMessage() and "the previous certificate is used on" in caplog.text
    server.files.key.unlink()
    assert server.later() is first
    server.replace("certificate", "key")
    assert server.later() is not first
    assert len(caplog.records) == 2


def test_a_server_does_not_start_with_a_broken_certificate(tmp_path):
    with pytest.raises(SinkSetupError, match=r"server\.crt: certificate not found"):
        ServerTls(_missing(make_certificate(tmp_path)))
