"""The report of one run: printed by ``--json``, and the source of the summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fusepipe.core.rig_state import RigStatus
from fusepipe.core.text import counted

MAX_LINES = 10  # of skipped names in the summary; --json has more


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
    possible ones was fused.
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

    def as_json(self) -> dict[str, Any]:
        """A document of plain values."""
        return asdict(self)

    def summary(self) -> list[str]:
        """The lines printed at the end of a run."""
        if not self.engine:
            tries = counted(self.status.failed_starts, "attempt")
            return [f"{self.rig}: did not start: {'; '.join(self.status.reasons)} ({tries})"]
        total = sum(self.pairs.values())
        states = ", ".join(f"{count} {state}" for state, count in self.pairs.items()) or "none"
        lines = [
            f"{self.rig}: {counted(total, 'pair')} ({states}) in {self.seconds:.1f} s, {self.pairs_per_s:.1f} pairs/s"
        ]
        engine = self.engine
        lines.append(
            f"  fused by {engine['model']} on {engine['backend']} {engine['precision']}"
            + (f" ({engine['reason']})" if engine.get("reason") else "")
        )
        if self.skew_ms:
            mean, p95, most = (self.skew_ms[k] for k in ("mean", "p95", "max"))
            lines.append(f"  skew mean {mean:.2f} ms, p95 {p95:.2f} ms, max {most:.2f} ms")
        elif self.pairs:
            lines.append("  skew not known: the pairs were not made by capture times")
        if self.latency_ms:
            p50, p95, p99 = (self.latency_ms[k] for k in ("p50", "p95", "p99"))
            lines.append(f"  latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        if self.drift is not None:
            lines.append(_drift_line(self.drift))
        if self.live is not None:
            lines += _live_lines(self.live)
        for reason, count in self.skipped.items():
            lines.append(f"  skipped: {count} {reason}")
        lines += [f"    {note}" for note in self.notes[:MAX_LINES]]
        if len(self.notes) > MAX_LINES:
            lines.append(f"    ... {len(self.notes) - MAX_LINES} more in --json")
        for stage, count in self.dropped.items():
            lines.append(f"  dropped: {count} before {stage} (the next stage was late)")
        if self.overload is not None and self.overload["times"]:
            lines.append(_overload_line(self.overload))
        lines += [_written_line(sink) for sink in self.written]
        lines += [sink_line(sink) for sink in self.sinks if sink["failures"]]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        if self.interrupted:
            lines.append("  ended early: interrupted")
        return lines


def _written_line(sink: dict[str, Any]) -> str:
    note = f" ({sink['note']})" if sink["note"] else ""
    if not sink["frames"]:
        return f"  wrote nothing to {sink['path']}{note}"
    return f"  wrote {sink['path']}: {counted(sink['frames'], 'frame')}, {sink['bytes'] / 1e6:.2f} MB{note}"


def _overload_line(overload: dict[str, Any]) -> str:
    lighter = ", ".join(f"{model} {seconds:.0f} s" for model, seconds in overload["lighter_s"].items())
    text = f"  too slow {counted(overload['times'], 'time')}, for {overload['seconds']:.0f} s"
    return text + (f"; fused by a lighter model: {lighter}" if lighter else "")


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


def _drift_line(drift: dict[str, Any]) -> str:
    checks = f"{drift['checks']} checks"
    if drift["blind"]:
        checks += f", {drift['blind']} of them without evidence"
    text = f"  drift: {drift['state']}, {drift['offset_px']:.1f} px off the calibration ({checks})"
    if drift["corrected_px"]:
        text += f"; {drift['corrected_px']:.1f} px corrected"
    if drift["bounded"]:
        text += "; more than can be corrected: calibrate again"
    return text


def sink_line(sink: dict[str, Any]) -> str:
    """The line of a sink that failed."""
    again = f"restarted {counted(sink['restarts'], 'time')}" if sink["restarts"] else "not restarted"
    missed = f", missed {counted(sink['missed'], 'frame')}" if sink["missed"] else ""
    state = "" if sink["up"] else "; down at the end"
    return f"  sink {sink['sink']}: failed {counted(sink['failures'], 'time')}, {again}{missed}{state}"


def _live_lines(live: dict[str, Any]) -> list[str]:
    """The states of a live rig and its cameras' clocks, for people."""
    states = ", ".join(f"{state} {seconds:.1f} s" for state, seconds in live["seconds"].items())
    lines = [f"  states: {states or 'none'} ({counted(live['changes'], 'change')})"]
    for band, camera in live["cameras"].items():
        clock = camera["clock"]
        skew = "" if clock["skew_ppm"] is None else f", skew {clock['skew_ppm']:+.0f}±{clock['skew_error_ppm']:.0f} ppm"
        text = f"  {band}: clock {clock['grade']}{skew}, jitter {clock['jitter_ms']:.1f} ms"
        if camera.get("connections", 1) > 1 or camera.get("failures"):
            failed = ", ".join(f"{count} {cause}" for cause, count in camera["failures"].items())
            text += f"; {counted(camera['connections'], 'connection')}" + (f" ({failed})" if failed else "")
        lines.append(text)
    return lines
