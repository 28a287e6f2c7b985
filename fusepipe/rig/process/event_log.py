"""The event log of a run on standard error: camera lost, state changed, output restarted, each with time and rig."""

from __future__ import annotations

import logging
import sys

from fusepipe.core.log_context import RIG_NAME
from fusepipe.core.redact import hide_known

LOG_FORMAT = "%(asctime)s %(message)s"


class _Formatter(logging.Formatter):
    """Names the rig, and hides the secrets of the URLs that this process was given, also in tracebacks of libraries."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the library's
        rig = RIG_NAME.get()
        if rig and not record.message.startswith(f"{rig}: "):
            record.message = f"{rig}: {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return hide_known(super().format(record))


def log_to_stderr() -> None:
    """Sends fusepipe's log lines from INFO on to standard error, prefixed with HH:MM:SS; replaces other handlers."""
    if sys.stderr is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(LOG_FORMAT, "%H:%M:%S"))
    logger = logging.getLogger("fusepipe")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
