"""Whether a run fused as many pairs as its inputs allow: a successful run that fused few must not go unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fusepipe.core.frames import Band

SettingName = Callable[[str], str]

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
    setting: SettingName = str,
    errors: Mapping[str, str] | None = None,
) -> str:
    """Says that no pair or under half of the possible ones was fused, with the likely fix; empty where enough were.

    ``pairs`` counts by state, ``read`` frames by band, ``skipped`` frames by reason. The camera that delivered fewer
    frames sets what is possible: at 9 and 30 frames per second, a pair for each of the 9; the others are held.
    ``whole``: both sources were read to their end. ``dropped`` counts the frames of live cameras that a stage was too
    slow for, by mailbox. ``setting`` gives the name of a setting by its key. ``errors`` says by band why
    cameras deliver nothing, where that is known.
    """
    late = {name: count for name, count in (dropped or {}).items() if name in BEFORE_FUSION}
    fused, total = pairs.get("fused", 0), sum(pairs.values())
    both = fused + pairs.get("held", 0) + pairs.get("interpolated", 0)
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
    heard = all(read.get(band) for band in Band)
    slow = heard and sum(late.values()) > MIN_SHARE * max(possible, 1)
    cause = TOO_SLOW if slow else shortfall_advice(pairs, read, skipped, setting, errors or {})
    return f"{amount} ({', '.join(counts) or 'a stream was empty'}); {cause}"


def shortfall_advice(
    pairs: Mapping[str, int],
    read: Mapping[str, int],
    skipped: Mapping[str, int],
    setting: SettingName,
    errors: Mapping[str, str],
) -> str:
    """What to do about pairs that were not fused; arguments as of :func:`shortfall`."""
    if any(reason.endswith(" partner") for reason in skipped):
        return f"the images of a pair need the same file stem; rename them, or set {setting('sync.pair_by: order')}"
    if silent := [band for band in Band if not read.get(band)]:
        return f"no frames from the {' and the '.join(silent)} camera; {_silence(silent, errors)}"
    if any("unreadable" in reason for reason in skipped):
        return "check the damaged input"
    offset, tolerance = setting("sync.offset"), setting("sync.tolerance")
    if pairs.get("held", 0) > pairs.get("single", 0):
        return f"the frames of both cameras are further apart than {tolerance}; raise it, or set {offset}"
    return f"check that both inputs cover the same time, and set {offset} to the difference of their clocks"


def unreadable_counts(skipped: Mapping[str, int]) -> list[str]:
    """Of the frames skipped, by reason: those that could not be decoded, such as ``2 unreadable visible``."""
    return [f"{count} {reason}" for reason, count in skipped.items() if reason.startswith("unreadable")]


def _silence(silent: list[Band], errors: Mapping[str, str]) -> str:
    """What to do about cameras that delivered nothing."""
    unknown = [band for band in silent if band not in errors]
    causes = [errors[band] for band in silent if band in errors]
    if len(unknown) > 1:
        causes.append("check that they are on and reachable")
    elif unknown:
        causes.append(f"check that {f'the {unknown[0]} one' if causes else 'it'} is on and reachable")
    return "; ".join(causes)
