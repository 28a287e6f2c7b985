"""The lines that a run prints at its end: pairs and time, outputs, what went wrong; with ``-v`` all figures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusepipe.core.text import counted, sized
from fusepipe.core.video_formats import video_format
from fusepipe.rig.report.dropped import dropped_texts
from fusepipe.rig.report.run_report import RunReport

FEW_NOTES = 2  # of skipped frames without -v
MAX_NOTES = 10  # of skipped frames with -v; --json has more


def summary_lines(report: RunReport, *, verbose: bool = False) -> list[str]:
    """One line on the pairs, one for each output, and what went wrong; ``verbose``: also how, and every note."""
    if not report.engine:
        tries = counted(report.status.failed_starts, "attempt")
        return [f"{report.rig}: did not start: {'; '.join(report.status.reasons)} ({tries})"]
    lines = [_pairs_line(report)]
    lines += _figures(report) if verbose else []
    lines += [_written_line(sink) for sink in report.written if sink["frames"] or report.ok]
    lines += _demo_lines(report)
    lines += _troubles(report, verbose=verbose)
    return lines


def _pairs_line(report: RunReport) -> str:
    total = sum(report.pairs.values())
    others = [state for state in report.pairs if state != "fused"]
    counts = ", ".join(f"{count} {state}" for state, count in report.pairs.items())
    pairs = f"{counted(total, 'pair')} ({counts})" if others else f"{counted(total, 'pair')} fused"
    rate = f", {report.pairs_per_s:.1f} pairs/s" if total > 1 else ""
    return f"{report.rig}: {pairs} in {report.seconds:.1f} s{rate}"


def _figures(report: RunReport) -> list[str]:
    """Engine, skew and, of live rigs, latency, clocks and states."""
    engine = report.engine
    reason = f" ({engine['reason']})" if engine.get("reason") else ""
    lines = [f"  fused by {engine['model']} on {engine['backend']} {engine['precision']}{reason}"]
    if report.gain:
        lines.append(f"  {report.gain}")
    if report.skew_ms:
        mean, p95, most = (report.skew_ms[k] for k in ("mean", "p95", "max"))
        lines.append(f"  skew mean {mean:.2f} ms, p95 {p95:.2f} ms, max {most:.2f} ms")
    elif report.pairs:
        lines.append("  skew not known: the pairs were not made by capture times")
    if report.live is not None:
        if report.latency_ms:  # of recordings it is the time in queues
            p50, p95, p99 = (report.latency_ms[k] for k in ("p50", "p95", "p99"))
            lines.append(f"  latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        lines += _live_lines(report.live)
    if report.drift is not None and report.drift["state"] == "ok":
        lines.append(_drift_line(report.drift))
    return lines


def _written_line(sink: Mapping[str, Any]) -> str:
    note = f" ({sink['note']})" if sink["note"] else ""
    if not sink["frames"]:
        return f"  wrote nothing to {sink['path']}{note}"
    size = f", {sized(sink['bytes'])}" if sink["bytes"] else ""  # a server without clients sends nothing
    return f"  wrote {sink['path']}: {counted(sink['frames'], 'frame')}{size}{note}"


def _demo_lines(report: RunReport) -> list[str]:
    """What the video of a demo shows and how to look at it: someone who runs it sees the program for the first time."""
    synthetic = report.sources and all(s["url"].startswith("synthetic://") for s in report.sources.values())
    videos = [
        sink["path"] for sink in report.written if sink["frames"] and video_format(Path(sink["path"])) is not None
    ]
    if not synthetic or not videos or report.live is not None:
        return []
    return [
        "  it shows a rendered street as the visible camera sees it, with what only the infrared one sees",
        f"  play it: ffplay {shlex.quote(videos[0])}, or any video player",
    ]


def _troubles(report: RunReport, *, verbose: bool) -> list[str]:
    """What the user should know about; nothing for a run without trouble."""
    lines = []
    if report.drift is not None and report.drift["state"] != "ok":
        lines.append(_drift_line(report.drift))
    if report.skipped:
        lines += _skipped_lines(report, verbose=verbose)
    if dropped := dropped_texts(report.dropped, report.sinks):
        lines.append(f"  dropped: {', '.join(dropped)} (too slow for them)")
    if report.overload is not None and report.overload["times"]:
        lines.append(_overload_line(report.overload))
    # the failure of a recording's only attempt is the error of the run
    failed = [sink for sink in report.sinks if sink["failures"] and (report.live is not None or report.ok)]
    lines += [sink_line(sink) for sink in failed]
    lines += [f"  warning: {warning}" for warning in report.warnings]
    if report.interrupted:
        lines.append("  ended early: interrupted")
    return lines


def _skipped_lines(report: RunReport, *, verbose: bool) -> list[str]:
    """Counts by reason; the notes on single frames where there are few, or with ``verbose``."""
    text = "  skipped: " + ", ".join(_counted_reason(count, reason) for reason, count in report.skipped.items())
    notes = report.notes
    if not verbose:
        more = f"; {len(notes) - FEW_NOTES} more with -v" if len(notes) > FEW_NOTES else ""
        return [f"{text} ({'; '.join(notes[:FEW_NOTES])}{more})" if notes else text]
    left = [f"    ... {len(notes) - MAX_NOTES} more in --json"] if len(notes) > MAX_NOTES else []
    return [text, *(f"    {note}" for note in notes[:MAX_NOTES]), *left]


def _counted_reason(count: int, reason: str) -> str:
    """``2 late pairs``, but ``2 unreadable infrared``."""
    return counted(count, reason) if reason.endswith((" frame", " pair")) else f"{count} {reason}"


def _overload_line(overload: Mapping[str, Any]) -> str:
    lighter = ", ".join(f"{model} {seconds:.0f} s" for model, seconds in overload["lighter_s"].items())
    text = f"  too slow {counted(overload['times'], 'time')}, for {overload['seconds']:.0f} s"
    if overload.get("last_message"):
        text += f": {overload['last_message'].removeprefix('too slow: ')}"
    return text + (f"; fused by a lighter model: {lighter}" if lighter else "")


def _drift_line(drift: Mapping[str, Any]) -> str:
    checks = f"{drift['checks']} checks"
    if drift["blind"]:
        checks += f", {drift['blind']} of them without evidence"
    text = f"  drift: {drift['state']}, {drift['offset_px']:.1f} px off the calibration ({checks})"
    if drift["corrected_px"]:
        text += f"; {drift['corrected_px']:.1f} px corrected"
    if drift["bounded"]:
        text += "; more than can be corrected: calibrate again"
    return text


def sink_line(sink: Mapping[str, Any]) -> str:
    """The line of a sink that failed."""
    again = f"restarted {counted(sink['restarts'], 'time')}" if sink["restarts"] else "not restarted"
    missed = f", missed {counted(sink['missed'], 'frame')}" if sink["missed"] else ""
    state = "" if sink["up"] else "; down at the end"
    return f"  sink {sink['sink']}: failed {counted(sink['failures'], 'time')}, {again}{missed}{state}"


def _live_lines(live: Mapping[str, Any]) -> list[str]:
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
