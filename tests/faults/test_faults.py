"""Faults injected into a running live rig: what the output does, how long recovery takes, which states are seen.

Each fault is injected at a random time; seeds are in the names. CI samples one injection a fault:

    FUSEPIPE_FAULT_INJECTIONS=20 FUSEPIPE_FAULT_TABLE=table.md pytest tests/faults

makes the table of docs/cameras.md. Each injection leaves the output going on, its times rising, the rig fused again.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from fusepipe.app import Pipeline
from fusepipe.config.schema import Rig
from fusepipe.pipeline.sinks.base import SinkReport

INJECTIONS = int(os.environ.get("FUSEPIPE_FAULT_INJECTIONS", "1"))
TABLE = os.environ.get("FUSEPIPE_FAULT_TABLE")
STEADY = 5  # fused frames in a row that count as recovered
RECOVERY_S = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Watch:
    """A sink that notes when each frame came, its state and its time."""

    label, outputs = "watch", ()

    def __init__(self):
        self.seen = []
        self._changed = threading.Condition()

    def check(self):
        """Nothing to refuse."""

    def write(self, frame):
        with self._changed:
            self.seen.append((time.monotonic(), str(frame.state), frame.capture_ns))
            self._changed.notify_all()

    def close(self):
        return SinkReport("watch", len(self.seen), 0)

    def fused_again(self, since_s, timeout_s=RECOVERY_S):
        """Seconds until a run of fused frames that begins after ``since_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                run = 0
                for at, state, _ in reversed(self.seen):
                    if state != "fused" or at < since_s:
                        break
                    run, begun = run + 1, at
                if run >= STEADY:
                    return begun - since_s
                if not self._changed.wait(deadline - time.monotonic()):
                    states = Counter(state for at, state, _ in self.seen if at >= since_s)
                    pytest.fail(f"not fused again within {timeout_s} s; since then {dict(states)}")

    def window(self, since_s):
        """(longest time without output, states seen) since then."""
        times = [at for at, _, _ in self.seen if at >= since_s - 1] + [time.monotonic()]
        return max(b - a for a, b in pairwise(times)), sorted({s for at, s, _ in self.seen if at >= since_s})


@pytest.fixture
def rig(rtsp_camera):
    """Two RTSP cameras and a pipeline that is fused: (cameras by band, pipeline, watch)."""
    cameras = {"infrared": rtsp_camera(size="160x120", fps=15), "visible": rtsp_camera(size="320x240", fps=15)}
    source = {"stall_timeout": "1s", "open_timeout": "3s"}
    config = {
        **{band: {"url": camera.url, **source} for band, camera in cameras.items()},
        "sync": {"tolerance": "40ms", "max_wait": "300ms"},
        "fusion": {"model": "mean"},
    }
    watch = Watch()
    pipeline = Pipeline(Rig.model_validate({"name": "faults", **config}), sinks=[watch])
    pipeline.start()
    try:
        watch.fused_again(0)
        yield cameras, pipeline, watch
    finally:
        pipeline.drain()
        pipeline.wait()
    pipeline.raise_error()


def hang(camera, rng):
    camera.send(signal.SIGSTOP)
    time.sleep(rng.uniform(1.5, 3.0))
    camera.send(signal.SIGCONT)


def die(camera, rng):
    camera.kill()
    time.sleep(rng.uniform(0.2, 1.5))
    camera.start()


def other_size(camera, rng):
    camera.kill()
    camera.size = rng.choice(["240x180", "480x360", "640x480"])
    camera.start()


def freeze(camera, rng):
    camera.send(signal.SIGUSR1)
    time.sleep(rng.uniform(0.8, 2.0))
    camera.send(signal.SIGUSR1)


# fault -> (what is done, cameras it is done to, states that have to be seen)
FAULTS = {
    "infrared camera hangs": (hang, ["infrared"], {"held", "single"}),
    "visible camera hangs": (hang, ["visible"], {"single"}),
    "both cameras hang": (hang, ["infrared", "visible"], {"no signal"}),
    "infrared camera dies": (die, ["infrared"], {"held"}),
    "visible camera dies": (die, ["visible"], set()),
    "visible camera returns with another size": (other_size, ["visible"], set()),
    "infrared camera returns with another size": (other_size, ["infrared"], set()),
    "infrared picture stands, times go on": (freeze, ["infrared"], {"held"}),
}


@pytest.mark.parametrize("seed", range(INJECTIONS))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_camera(rig, fault, seed):
    cameras, pipeline, watch = rig
    act, bands, wanted = FAULTS[fault]
    rng = random.Random(f"{fault} {seed}")
    time.sleep(rng.uniform(0.0, 1.0))
    begun = time.monotonic()
    threads = [threading.Thread(target=act, args=(cameras[b], random.Random(seed)), name=f"fault-{b}") for b in bands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.monotonic()
    recovered_s = watch.fused_again(ended)
    gap_s, states = watch.window(begun)
    report = pipeline.report()
    times = [capture_ns for _, _, capture_ns in watch.seen]
    assert all(a < b for a, b in pairwise(times)), "times never go back"
    assert wanted <= set(states), f"{states = }"
    assert gap_s < 3.0, f"no output for {gap_s:.2f} s"
    note(fault, seed, gap_s, recovered_s, states, {**report.skipped, **report.dropped})


def test_a_password_that_is_changed_is_not_hammered(rig):
    cameras, pipeline, watch = rig
    begun = time.monotonic()
    cameras["infrared"].kill()
    cameras["infrared"].user = "ann:hunter2"
    cameras["infrared"].start()
    deadline = time.monotonic() + 20
    while not failures(pipeline)["authentication failed"] and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)
    assert failures(pipeline)["authentication failed"] == 1, "one attempt, then half a minute of peace"
    gap_s, states = watch.window(begun)
    assert "single" in states and gap_s < 3.0
    note("infrared password changed", 0, gap_s, None, states, {})


def failures(pipeline):
    return Counter(pipeline.report().live["cameras"]["infrared"]["failures"])


def note(fault, seed, gap_s, recovered_s, states, drops):
    """One line of the raw table."""
    if TABLE:
        recovered = "-" if recovered_s is None else f"{recovered_s:.2f}"
        lost = ", ".join(f"{count} {reason}" for reason, count in drops.items())
        with Path(TABLE).open("a", encoding="utf-8") as file:
            file.write(f"| {fault} | {seed} | {gap_s:.2f} | {recovered} | {', '.join(states)} | {lost} |\n")
