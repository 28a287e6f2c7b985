"""Simulated live cameras, fed to a live pairer as they would arrive."""

import random
from itertools import pairwise

from helpers.arrival_log import ArrivalLog

from fusepipe.core.frames import Band, Disconnected, Frame
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.testing import MS, frame

IR, VIS = Band.INFRARED, Band.VISIBLE
S = 1000 * MS
START = 50 * S


def make(max_wait_ns=60 * MS, detect_freezes=(IR, VIS), **options):
    return LivePairer(
        TimePairer(VIS, tolerance_ns=20 * MS, max_wait_ns=max_wait_ns, **options),
        {IR: CaptureClock(), VIS: CaptureClock()},
        reference=VIS,
        size=(64, 48),
        start_ns=START,
        detect_freezes=detect_freezes,
    )


def camera(band, seed, *, ppm=0.0, fps=25.0, phase_ns=0, seconds=60, offset_ns=0, jitter_ns=MS, away=()):
    """Frames of a camera in order of arrival; ``away`` are (from, to) seconds in which nothing arrives."""
    rng = random.Random(f"{seed} {band}")
    last = 0
    for index in range(round(seconds * fps)):
        true_ns = START + phase_ns + round(index * S / fps)
        media_ns = round((true_ns - START) * (1 + ppm * 1e-6)) + offset_ns + round(rng.gauss(0, jitter_ns))
        burst_ns = 30 * MS if index % 25 == 0 else 0
        last = max(last + 1000, true_ns + 4 * MS + round(rng.expovariate(1 / (2 * MS))) + burst_ns)
        if not any(a <= (true_ns - START) / S < b for a, b in away):
            yield true_ns, frame(band, index, media_ns, arrival_ns=last)


def live(pairer, *streams, log=None):
    """Feeds streams as they arrive, with the waits that the graph makes; (pairs, truth by band and index)."""
    pairer = pairer if log is None else ArrivalLog(pairer, log.append)
    items = sorted((item for stream in streams for item in stream), key=lambda item: item[1].arrival_ns)
    truth = {(item.band, item.index): true_ns for true_ns, item in items if isinstance(item, Frame)}
    pairs, at = [], []
    for _, item in items:
        while (due_ns := pairer.deadline_ns()) is not None and due_ns < item.arrival_ns:
            made = pairer.expire(due_ns)
            pairs += made
            at += [due_ns] * len(made)
        made = pairer.push(item)
        pairs += made
        at += [item.arrival_ns] * len(made)
    return pairs, at, truth


def states(pairs, at, from_s, to_s):
    return {str(p.state) for p, now in zip(pairs, at, strict=True) if START + from_s * S <= now < START + to_s * S}


def gap_s(at):
    return max(b - a for a, b in pairwise(at)) / S


def refused(band, *seconds):
    """The failures of a camera that is not connected, by when they were noticed."""
    for second in seconds:
        at_ns = START + round(second * S)
        yield at_ns, Disconnected(band, "connection refused", at_ns)


def waits_ms(pairs, at, from_s, to_s):
    """How long the pairs of a span waited after the arrival of their leading frame."""
    spans = [(now, p.lead.arrival_ns) for p, now in zip(pairs, at, strict=True)]
    return [(now - arrived) / MS for now, arrived in spans if START + from_s * S <= now < START + to_s * S]
