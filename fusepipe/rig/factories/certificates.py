"""Checks the certificates of a rig's servers, by ``fusepipe validate`` and before cameras are opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fusepipe.config.schema import PreviewSink, Rig, RtspSink
from fusepipe.core.errors import ConfigError, Problem
from fusepipe.core.yaml_models import KeyPath, key_text

if TYPE_CHECKING:
    from fusepipe.pipeline.servers.certificate import CertificateFiles

SERVERS = (RtspSink, PreviewSink)


@dataclass(frozen=True, slots=True)
class CertificateFinding:
    """What is wrong with a certificate of a rig, or (``usable``) should be mended; ``missing``: its file."""

    key_path: KeyPath
    message: str
    usable: bool = False
    missing: bool = False


def certificate_files(config: RtspSink | PreviewSink) -> CertificateFiles | None:
    """The certificate of a server; ``None`` for one without TLS."""
    if config.certificate is None:
        return None
    from fusepipe.pipeline.servers.certificate import CertificateFiles

    return CertificateFiles(Path(config.certificate), Path(config.key or config.certificate))


def certificate_findings(
    rig: Rig, kinds: tuple[type[RtspSink | PreviewSink], ...] = SERVERS
) -> Iterator[CertificateFinding]:
    """The findings of each server of these ``kinds`` with TLS; reads the files."""
    for index, config in enumerate(rig.sinks):
        files = certificate_files(config) if isinstance(config, kinds) else None
        if files is None:
            continue
        from fusepipe.pipeline.servers.certificate import CertificateError, certificate_warnings, load_certificate

        place = ("sinks", index)
        try:
            load_certificate(files)
        except CertificateError as error:
            yield CertificateFinding((*place, _key(error.of_key)), str(error), missing=error.missing)
            continue
        for warning in certificate_warnings(files, datetime.now(UTC)):
            yield CertificateFinding((*place, _key(warning.of_key)), warning.message, usable=True)


def check_certificates(
    rig: Rig, warn: Callable[[str], None], kinds: tuple[type[RtspSink | PreviewSink], ...] = SERVERS
) -> None:
    """Raises :class:`ConfigError` for certificates that cannot be used; ``warn`` gets what should be mended."""
    found = list(certificate_findings(rig, kinds))
    wrong = [finding for finding in found if not finding.usable]
    if wrong:
        where = f"rigs.{rig.name}"
        raise ConfigError(problems=[Problem("", 0, 0, f"{where}.{key_text(f.key_path)}", f.message) for f in wrong])
    for message in dict.fromkeys(finding.message for finding in found):
        warn(message)


def _key(of_key: bool) -> str:
    return "key" if of_key else "certificate"
