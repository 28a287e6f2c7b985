"""The TLS context of a server, which follows its certificate files: renewed ones are used without a restart."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fusepipe.core.errors import SinkSetupError
from fusepipe.pipeline.servers.certificate import (
    CertificateError,
    CertificateFiles,
    certificate_warnings,
    load_certificate,
)

log = logging.getLogger(__name__)

CHECK_S = 60.0  # at most so often the files are looked at, when a client connects
_Version = tuple[tuple[int, int, int], ...]


class ServerTls:
    """The certificate of one server. Raises :class:`SinkSetupError` if it cannot be used."""

    def __init__(self, files: CertificateFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.files = files
        self._clock = clock
        self._checked_s = clock()
        self._version = _version(files)
        try:
            self._context = load_certificate(files)
        except CertificateError as error:
            raise SinkSetupError(str(error)) from error

    def context(self) -> ssl.SSLContext:
        """The context for the next connection. Where a renewed certificate cannot be used, the previous one stays."""
        now_s = self._clock()
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            version = _version(self.files)
            if version != self._version:
                self._version = version
                self._reload()
        return self._context

    def _reload(self) -> None:
        # a new context: one that fails to load a chain is left with half of it
        try:
            self._context = load_certificate(self.files)
            for warning in certificate_warnings(self.files, datetime.now(UTC)):
                log.warning("%s", warning.message)
        except (ValueError, OSError) as error:
            log.warning("%s; the previous certificate is used on", error)
        else:
            log.info("%s: certificate reloaded", self.files.certificate)


def _version(files: CertificateFiles) -> _Version:
    """What changes when a file is replaced or written; links are followed, as certbot replaces them."""
    return tuple(_file_version(path) for path in (files.certificate, files.key))


def _file_version(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:  # told by the attempt to load it
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino
