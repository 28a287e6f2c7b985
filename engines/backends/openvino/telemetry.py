"""Imports ``openvino`` without its telemetry.

On import, ``openvino`` reports to an analytics service through the package ``openvino_telemetry``: it looks up a host
and writes a client id below the home directory. The only setting against it is a file in the same place. Where that
package is missing, ``openvino`` uses its own empty replacement (``openvino.tools.ovc.telemetry_stub``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Makes the telemetry package look missing inside; a program that has it loaded keeps its module afterwards."""
    missing = object()
    loaded = sys.modules.get(_PACKAGE, missing)
    sys.modules[_PACKAGE] = None  # type: ignore[assignment] # Python's way to refuse an import
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
        if loaded is not missing:
            sys.modules[_PACKAGE] = loaded  # type: ignore[assignment]
