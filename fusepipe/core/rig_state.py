"""The state of a rig of a running process, the same on the page, in ``/api/rigs``, the metrics and the summary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RigState(StrEnum):
    """What a rig does now."""

    STARTING = "starting"  # its inputs are being opened, or its engine is being compiled
    RUNNING = "running"  # it delivers fused frames to all of its outputs
    DEGRADED = "degraded"  # it delivers frames, but not fused ones or not to all outputs
    FAILED = "failed"  # it could not start, or ended with an error
    STOPPED = "stopped"  # it has ended as intended


@dataclass(frozen=True, slots=True)
class RigStatus:
    """State, and what explains it.

    ``reasons``: why it is degraded or failed, one sentence each, without secrets. ``failed_starts`` counts attempts to
    start that failed; ``retry_at_s`` is the UNIX time of the next one, ``None`` if there will be none.
    """

    state: RigState
    reasons: tuple[str, ...] = ()
    failed_starts: int = 0
    retry_at_s: float | None = None
