"""Whether a run fused as many pairs as its inputs allow: a successful run that fused few must not go unnoticed."""

from __future__ import annotations

from collections.abc import Mapping

IN_FLIGHT = 24  # frames of a camera that may be read and not decided when a run ends before its sources do
MIN_SHARE = 0.5
BEFORE_FUSION = ("infrared", "visible", "paired", "registered")  # mailboxes
TOO_SLOW = "this machine is too slow: use a lighter fusion.model, fusion.precision int8 or a smaller output.size"


def shortfall(
    pairs: Mapping[str, int],
    read: Mapping[str, int],
    skipped: Mapping[str, int],
    *,
    whole: bool,
    dropped: Mapping[str, int] | None = None,
) -> str:
    """Says that no pair or under half of the possible ones was fused, with the likely fix; empty where enough were.

    ``pairs`` counts by state, ``read`` frames by band, ``skipped`` frames by reason. The camera that delivered fewer
    frames sets what is possible: at 9 and 30 frames per second, a pair for each of the 9; the others are held.
    ``whole``: both sources were read to their end. ``dropped`` counts the frames of live cameras that a stage was too
    slow for, by mailbox.
    """
    late = {name: count for name, count in (dropped or {}).items() if name in BEFORE_FUSION}
    fused, total = pairs.get("fused", 0), sum(pairs.values())
    both = fused + pairs.get("held", 0)
    possible = (min(read.values()) if len(read) > 1 else 0) - (0 if whole else IN_FLIGHT)
    if fused == 0:
        amount = "no pair was fused" if total or read else ""
    elif fused < MIN_SHARE * possible:
        amount = f"only {fused} of {possible} possible pairs were fused"
    elif both < MIN_SHARE * total:
        amount = f"only {both} of {total} frames show both cameras"
    else:
        amount = ""
    if not amount:
        return ""
    counts = [f"{count} {reason}" for reason, count in (*pairs.items(), *skipped.items()) if reason != "fused"]
    if late:
        counts.append(f"{sum(late.values())} dropped before fusion")
    advice = TOO_SLOW if late and sum(late.values()) > MIN_SHARE * possible else _advice(pairs, read, skipped)
    return f"{amount} ({', '.join(counts) or 'a stream was empty'}); {advice}"


def _advice(pairs: Mapping[str, int], read: Mapping[str, int], skipped: Mapping[str, int]) -> str:
    if any(reason.endswith(" partner") for reason in skipped):
        return "the images of a pair need the same file stem; rename them, or pair by time with sync.pair_by: time"
    if len(read) < 2:
        return "one camera delivered no frames; check that it is on and reachable"
    if any("unreadable" in reason for reason in skipped):
        return "check the damaged input"
    if pairs.get("held", 0) > pairs.get("single", 0):
        return "the frames of both cameras are further apart than sync.tolerance; raise it, or set sync.offset"
    return "check that both inputs cover the same time, and set sync.offset to the difference of their clocks"
