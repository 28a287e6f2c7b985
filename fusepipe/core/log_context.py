"""The rig that a thread works for, so that each of its log lines can name it."""

from __future__ import annotations

from contextvars import ContextVar

RIG_NAME: ContextVar[str] = ContextVar("rig_name", default="")
"""Set by each thread of a rig; empty in threads that serve several rigs."""
