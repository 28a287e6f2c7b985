"""Faults injected into a running live rig: states and gaps of the output, recovery time, losses by reason.

CI injects each fault once, at a random time, and once more where the first outcome was not as expected: cameras,
servers and the rig share the processors with whatever else runs there. Only a second one fails the test. The table of
docs/measurements/live-faults.md is made by

    FUSEPIPE_FAULT_TABLE=table.md pytest -m long tests/faults/test_faults.py

with one run for each fault and twenty injections (or FUSEPIPE_FAULT_INJECTIONS) at random times of it; seeds are
printed. After each injection the output continues, its times have only increased, and the rig is fused again.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from faults.bench import FPS, Bench
from faults.injections import FAULTS
from faults.table import Outcome, append, row
from peers.cameras import MISSING, RtspCamera, gst_rtsp_server

from fusepipe.pipeline.backoff import BackoffPolicy, S
from fusepipe.pipeline.servers.delivery import Delivery
from fusepipe.pipeline.servers.rtsp import client_connection, push
from fusepipe.pipeline.sources.live import camera as live

OFTEN = int(os.environ.get("FUSEPIPE_FAULT_INJECTIONS", "20"))
TABLE = os.environ.get("FUSEPIPE_FAULT_TABLE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(
    params=[
        pytest.param(1, id="once"),
        pytest.param(OFTEN, id="often", marks=[pytest.mark.long, pytest.mark.timeout(100 + 90 * OFTEN)]),
    ]
)
def count(request, monkeypatch):
    """Number of injections; for one, the longest timeouts of the product are shortened."""
    if request.param == 1:
        monkeypatch.setattr(live, "CAMERA_LOGIN", BackoffPolicy(first_ns=3 * S, cap_ns=60 * S))
        monkeypatch.setattr(client_connection, "Delivery", lambda: Delivery(limit_bytes=100_000, patience_ns=S))
        monkeypatch.setattr(push, "STALL_TIMEOUT_NS", S)
    return request.param


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of 8 MiB; skips with a reason where that is not allowed."""
    mounted = []

    def mount():
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system here: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], timeout=20, check=True)


@pytest.fixture(scope="module")
def cameras():
    """Two shared camera processes; the visible one shows noise at a bit rate (0: a moving ball)."""
    if not gst_rtsp_server():
        pytest.skip(MISSING)
    made = {}

    def pair(noise_kbps):
        for key, size, kbps in (("infrared", "160x120", 0), (noise_kbps, "320x240", noise_kbps)):
            if key not in made:
                made[key] = RtspCamera(size, fps=FPS, noise_kbps=kbps, life_s=3600)
            made[key].restore(size)
        return {"infrared": made["infrared"], "visible": made[noise_kbps]}

    yield pair
    for camera in made.values():
        camera.kill()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(cameras, small_disk, count, name):
    fault = FAULTS[name]
    outcomes, problems = [], []
    # the run is over for a sink that fails, so each of its injections has one of its own
    runs = [[number] for number in range(count)] if fault.alone else [range(count)]
    for injections in runs:
        needs = {need: small_disk() if need == "disk" else True for need in fault.needs}
        bench = Bench(cameras(fault.noise_kbps), patient=count > 1, **needs)
        try:
            bench.start()
            for number in injections:
                outcomes.append(inject(bench, name, f"{name} {number}", rest=count > 1 and not fault.alone))
                found = list(complaints(fault, outcomes[-1]))
                if found and count == 1 and not fault.alone:
                    outcomes.append(inject(bench, name, f"{name} again", rest=False))
                    found = list(complaints(fault, outcomes[-1]))
                problems += found
            assert not bench.watch.went_back, "times never go back"
        finally:
            bench.close()
    if TABLE:
        append(Path(TABLE), row(name, outcomes))
    assert not problems


def inject(bench, name, seed, rest):
    fault, rng = FAULTS[name], random.Random(seed)
    time.sleep(rng.uniform(*fault.rest_s) if rest else rng.uniform(0.0, 0.5))
    before = bench.lost()
    begun_s = time.monotonic()
    other_s = fault.act(bench, rng)
    ended_s = time.monotonic()
    recovered_s = max(bench.watch.fused_again(ended_s, fault.recovery_s), other_s or 0.0)
    since = bench.watch.since(begun_s)
    outcome = Outcome(
        seed, bench.gap_s(begun_s), recovered_s, Counter(each.state for each in since), bench.lost() - before
    )
    sys.stdout.write(f"{outcome}\n")
    return outcome


def complaints(fault, outcome):
    seen = set(outcome.states)
    if not fault.seen <= seen <= fault.allowed:
        yield f"{outcome.seed}: {seen = }"
    if outcome.gap_s >= fault.gap_s:
        yield f"{outcome.seed}: no output for {outcome.gap_s:.2f} s"
