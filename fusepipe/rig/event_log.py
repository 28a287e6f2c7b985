"""The event log of a run on standard error: camera lost, state changed, output restarted, each with its time."""

from __future__ import annotations

import logging
import sys

LOG_FORMAT = "%(asctime)s %(message)s"


def log_to_stderr() -> None:
    """Sends fusepipe's log lines from INFO on to standard error, prefixed with HH:MM:SS; replaces other handlers."""
    if sys.stderr is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT, "%H:%M:%S"))
    logger = logging.getLogger("fusepipe")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
