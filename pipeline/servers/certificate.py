"""Reads the certificate and the private key of a server; every failure is one line that names the file and the fix."""

from __future__ import annotations

import re
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----")
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18  # tags of DER
_OTHERS = stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate with its chain, and the private key, which may be in the same file."""

    certificate: Path
    key: Path


class CertificateError(ValueError):
    """A certificate or key that cannot be used; the message names the file and the fix.

    ``of_key``: the private key is at fault. ``missing``: the file does not exist.
    """

    def __init__(self, message: str, *, of_key: bool = False, missing: bool = False) -> None:
        super().__init__(message)
        self.of_key, self.missing = of_key, missing


@dataclass(frozen=True, slots=True)
class CertificateWarning:
    """What works and should be mended: one line; ``of_key`` as in :class:`CertificateError`."""

    message: str
    of_key: bool = False


def load_certificate(files: CertificateFiles) -> ssl.SSLContext:
    """The context of a TLS server, 1.2 or later. Raises :class:`CertificateError`."""
    _check_certificate_file(files)
    _check_key_file(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # OpenSSL would ask for a password on the terminal
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        raise _unusable(files, error) from error
    return context


def certificate_warnings(files: CertificateFiles, now: datetime) -> list[CertificateWarning]:
    """What should be mended in files that :func:`load_certificate` accepts."""
    found = []
    begins, ends = validity(files.certificate.read_bytes())
    if now > ends:
        found.append(CertificateWarning(f"{files.certificate}: expired on {ends:%Y-%m-%d}: renew the certificate"))
    elif now < begins:
        text = f"{files.certificate}: is valid from {begins:%Y-%m-%d %H:%M} UTC on: check the clock of this machine"
        found.append(CertificateWarning(text))
    if files.key.stat().st_mode & _OTHERS:
        text = f"{files.key}: other users can read the private key; deny it: chmod o= {quote(str(files.key))}"
        found.append(CertificateWarning(text, of_key=files.key != files.certificate))
    return found


def _check_certificate_file(files: CertificateFiles) -> None:
    path = files.certificate
    text = _read(path, of_key=False)
    if _CERTIFICATE.search(text):
        return
    if _KEY.search(text):
        raise CertificateError(f"{path}: holds a private key and no certificate; name it as key")
    raise CertificateError(f"{path}: is not a certificate in PEM format; convert it: {_conversion(path, text)}")


def _check_key_file(files: CertificateFiles) -> None:
    path, own_file = files.key, files.key != files.certificate
    text = _read(path, of_key=True)
    found = _KEY.search(text)
    if found is None and not own_file:
        raise CertificateError(f"{path}: has no private key; name its file as key")
    if found is None and _CERTIFICATE.search(text):
        raise CertificateError(f"{path}: holds a certificate and no private key", of_key=True)
    if found is None:
        fix = f"openssl pkey -in {quote(str(path))} -out {quote(str(path.with_suffix('.pem')))}"
        raise CertificateError(f"{path}: is not a private key in PEM format; convert it: {fix}", of_key=True)
    if b"ENCRYPTED" in found[1] or b"Proc-Type: 4,ENCRYPTED" in text:
        decrypted = path.with_name(f"{path.stem}.plain.pem")
        fix = f"(umask 077; openssl pkey -in {quote(str(path))} -out {quote(str(decrypted))})"
        message = f"{path}: the private key has a password; write it without one, readable by you only: {fix}"
        raise CertificateError(message, of_key=own_file)


def _read(path: Path, *, of_key: bool) -> bytes:
    what = "private key" if of_key else "certificate"
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CertificateError(f"{path}: {what} not found", of_key=of_key, missing=True) from error
    except IsADirectoryError as error:
        raise CertificateError(f"{path}: is a folder; name the PEM file of the {what}", of_key=of_key) from error
    except PermissionError as error:
        text = f"{path}: no permission to read the {what}; give it to the user that runs fusepipe"
        raise CertificateError(text, of_key=of_key) from error
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path}: cannot read the {what}: {error}", of_key=of_key) from error


def _conversion(path: Path, text: bytes) -> str:
    """The command that makes PEM of DER or, where the name says so, of PKCS #12."""
    read, written = quote(str(path)), quote(str(path.with_suffix(".pem")))
    if path.suffix.lower() in (".p12", ".pfx"):
        return f"openssl pkcs12 -in {read} -noenc -out {written}"
    if text[:1] != bytes([_SEQUENCE]):
        return f"openssl x509 -in {read} -out {written}"
    return f"openssl x509 -inform der -in {read} -out {written}"


def _unusable(files: CertificateFiles, error: OSError) -> CertificateError:
    reason = str(getattr(error, "reason", None) or error.strerror or error)
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        text = f"{files.key}: is not the private key of {files.certificate}; name the key it was made with"
        return CertificateError(text, of_key=files.key != files.certificate)
    if reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        text = (
            f"{files.certificate}: its key or signature is too weak ({_words(reason)}); make one with RSA 2048 or P-256"
        )
        return CertificateError(text)
    return CertificateError(f"{files.certificate}: cannot be used with {files.key}: {_words(reason)}; make both again")


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


# -- validity


def validity(pem: bytes) -> tuple[datetime, datetime]:
    """When the first certificate of a PEM text begins and ends to be valid, in UTC (RFC 5280, section 4.1).

    The standard library does not read a certificate that it has not verified. Raises :class:`ValueError`.
    """
    first = _CERTIFICATE.search(pem)
    if first is None:
        raise ValueError("no certificate")
    der = ssl.PEM_cert_to_DER_cert(first[0].decode("ascii", "replace"))
    fields = _elements(_content(_content(der, _SEQUENCE), _SEQUENCE))
    if fields[0][0] == _VERSION:
        del fields[0]
    # serial number, signature, issuer, validity
    begins, ends = _elements(fields[3][1])[:2]
    return _time(*begins), _time(*ends)


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of the elements of DER one after another."""
    found = []
    while data:
        tag, length, at = data[0], data[1], 2
        if length & 0x80:
            at += length & 0x7F
            length = int.from_bytes(data[2:at])
        found.append((tag, data[at : at + length]))
        data = data[at + length :]
    return found


def _content(data: bytes, tag: int) -> bytes:
    """The content of the first element."""
    found, content = _elements(data)[0]
    if found != tag:
        raise ValueError("not a certificate")
    return content


def _time(tag: int, text: bytes) -> datetime:
    """UTCTime has two digits of the year, from 1950 on."""
    digits = text.decode("ascii").rstrip("Z")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _TIME:
        raise ValueError("not a time")
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
