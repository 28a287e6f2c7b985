"""Loads TensorRT or TensorRT-RTX: the module, its version and its log.

Both have the same classes; where they differ, code checks for the attribute and never for the version.
"""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import dataclass
from typing import Any

from fusepipe.core.errors import EngineError

_LOG = logging.getLogger(__name__)
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_KEPT = 50
_LOCK = threading.Lock()
_LOADED: dict[str, Library] = {}


@dataclass(frozen=True, slots=True)
class Library:
    """``module`` is ``tensorrt`` or ``tensorrt_rtx``; ``log`` keeps the last warnings and errors it printed."""

    backend: str
    module: Any
    version: str
    logger: Any
    log: list[str]

    @property
    def portable(self) -> bool:
        """Whether plans are built without a GPU and run on several GPUs (TensorRT-RTX)."""
        return hasattr(self.module, "ComputeCapability")

    def complaint(self) -> str:
        """The last logged error, for messages."""
        return self.log[-1] if self.log else "no reason was logged"


def load_library(backend: str) -> Library:
    """Imports the library of a backend; raises :class:`EngineError` with the command to install it."""
    with _LOCK:
        if backend not in _LOADED:
            try:
                module = importlib.import_module(MODULES[backend])
            except (ImportError, OSError, RuntimeError) as error:
                raise EngineError(
                    f"the backend {backend} needs {MODULES[backend]}, which cannot be imported ({error}): "
                    f"pip install 'fusepipe[{backend}]'"
                ) from error
            log: list[str] = []
            # One logger per library: the library keeps the first one for the whole process.
            _LOADED[backend] = Library(backend, module, str(module.__version__), _logger(module, log), log)
        return _LOADED[backend]


def _logger(module: Any, log: list[str]) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        """Forwards warnings and errors to Python's logging; keeps the last errors for messages."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                log.append(" ".join(message.split()))
                del log[:-_KEPT]
                _LOG.debug("%s", message)
            elif severity == module.ILogger.Severity.WARNING:
                _LOG.debug("%s", message)

    return Logger()
