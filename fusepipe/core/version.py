"""The version of fusepipe, equal to that of ``pyproject.toml``; ``fusepipe.__version__`` is this."""

from __future__ import annotations

__version__ = "0.1.0"
