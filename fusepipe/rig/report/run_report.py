"""The report of one run: printed by ``--json``; :mod:`fusepipe.rig.report.summary` has its lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fusepipe.core.rig_state import RigStatus


@dataclass(frozen=True, slots=True)
class RunReport:
    """The figures of one run, all measured in it.

    ``status``: the rig's state now and its reasons. ``pairs``: pairs that left the fusion stage, by state; those
    dropped before it are not in it. ``skipped``: unpaired frames by reason. ``dropped``: frames that live mailboxes
    dropped, by mailbox. ``skew_ms``: absolute capture time difference within a fused pair, ``None`` where not known.
    ``latency_ms``: from the arrival of the later frame to the written fused one. ``seconds``: wall time.
    ``stage_cpu_s``: CPU time of each stage, on Linux with the threads of engines and codecs. ``overload``: how
    often and how long a live rig was too slow, and with which lighter models it fused. ``drift``: offset of the
    images from the calibration, where it is watched. ``live``: seconds in each state of a live rig, and each
    camera's clock, connections and failures by cause. ``sinks``: for each whether it is up, its failures and
    restarts, and the frames it missed. ``shortfall`` says, at the end of a run, that no pair or under half of the
    possible ones was fused. ``gain``: the gain control of the infrared images; empty where 8-bit ones have none.
    """

    rig: str
    status: RigStatus
    ok: bool
    interrupted: bool
    seconds: float
    pairs: dict[str, int]
    pairs_per_s: float
    read: dict[str, int]
    skipped: dict[str, int]
    notes: list[str]
    dropped: dict[str, int]
    skew_ms: dict[str, float] | None
    latency_ms: dict[str, float]
    sources: dict[str, dict[str, Any]]
    registration: str
    engine: dict[str, Any]
    written: list[dict[str, Any]]
    stage_cpu_s: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    drift: dict[str, Any] | None = None
    live: dict[str, Any] | None = None
    sinks: list[dict[str, Any]] = field(default_factory=list)
    overload: dict[str, Any] | None = None
    shortfall: str | None = None
    gain: str = ""

    def as_json(self) -> dict[str, Any]:
        """A document of plain values."""
        return asdict(self)


def report_of_failed_start(rig: str, status: RigStatus, error: str) -> RunReport:
    """The report of a rig that could not start: all figures are zero."""
    return RunReport(
        rig=rig,
        status=status,
        ok=False,
        interrupted=False,
        seconds=0.0,
        pairs={},
        pairs_per_s=0.0,
        read={},
        skipped={},
        notes=[],
        dropped={},
        skew_ms=None,
        latency_ms={},
        sources={},
        registration="",
        engine={},
        written=[],
        stage_cpu_s={},
        error=error,
    )
