"""Soak test of a live rig: real RTSP cameras on this machine, random faults, for half an hour.

Two cameras (gst-rtsp-server; infrared over TCP, visible over UDP), a stream that is served and played, and one that is
pushed. A random fault is injected every few seconds; memory, threads, descriptors and latency are sampled once a
second. A straight line is fitted to everything after the first third; a quantity is flat when its line rises by no
more than its bound. With --reconnects the connections of a camera are then cut as fast as they are made, and what the
process holds is fitted over their number. Exit code 1 where anything is not flat, or the rig was not fused again.

benchmarks/soak_live --duration 30min --reconnects 500
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import cv2
import numpy as np
from faults.bench import INFRARED, VISIBLE, Bench, NotRecoveredError
from faults.flatness import BOUNDS, LATENCY, SHORT_BOUNDS, SHORT_S, Series, judge, note, nothing_left, say
from faults.injections import die, freeze, freeze_target, hang, lose, never_read, other_size, set_back, slow_engine, to
from peers.cameras import MISSING, RtspCamera, gst_rtsp_server
from peers.relay import Relay

from fusepipe.core.frames import Band
from fusepipe.core.units import parse_duration_ns
from fusepipe.pipeline.backoff import Backoff, BackoffPolicy
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.workflows.bench.soak import held, held_at_rest

CALM_S = (2.0, 8.0)  # between two faults
RECOVERY_S = 45.0
WINDOW_S = 5.0  # a sample of latency is the minimum of this window, which other programs affect less
WARM_UP_S, WARM_UP_PX = 120.0, 2048
CUT_EVERY = 2  # frames per connection before it is cut
CONNECTION_S = 10.0

FAULTS = {
    "infrared hangs": to(INFRARED, hang),
    "visible hangs": to(VISIBLE, hang),
    "infrared dies": to(INFRARED, die),
    "visible dies": to(VISIBLE, die),
    "infrared returns with another size": to(INFRARED, other_size),
    "visible returns with another size": to(VISIBLE, other_size),
    "infrared image freezes": to(INFRARED, freeze),
    "visible clock is set back": to(VISIBLE, set_back),
    "5 % packet loss": lose(0.05),
    "a client never reads": never_read,
    "the push target hangs": freeze_target,
    "the engine is slow": slow_engine,
}


class Sampler:
    """Samples this process and the rig's latency once a second, in a thread."""

    def __init__(self, bench: Bench) -> None:
        self.series: Series = {}
        self._bench, self._stop = bench, threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def _run(self) -> None:
        begun_s = time.monotonic()
        while not self._stop.wait(1.0):
            now_s = time.monotonic()
            note(self.series, now_s - begun_s, held())
            ages = [s.age_s for s in self._bench.watch.since(now_s - WINDOW_S) if s.state == "fused"]
            if ages:
                point = (now_s - begun_s, 1e3 * min(ages))
                self.series.setdefault(LATENCY, []).append(point)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def with_cameras(stack: ExitStack, life_s: float) -> dict[str, RtspCamera]:
    """Two camera processes that end with ``stack``."""
    cameras = {}
    for band, size, noise_kbps in ((INFRARED, "160x120", 0), (VISIBLE, "320x240", 1000)):
        cameras[band] = RtspCamera(size=size, fps=15, noise_kbps=noise_kbps, life_s=round(life_s))
        stack.callback(cameras[band].kill)
    return cameras


def warm_up() -> None:
    """Runs a rig without faults, so that libraries have started the threads they keep.

    That is OpenCV's thread pool, one fewer than cores; the first operation on enough pixels starts it, so one is
    run here too.
    """
    with ExitStack() as stack:
        bench = Bench(with_cameras(stack, WARM_UP_S), mixed=True, serve=True, push=True, patient=True)
        try:
            bench.start()
        finally:
            bench.close()
    cv2.GaussianBlur(np.zeros((WARM_UP_PX, WARM_UP_PX), np.uint8), (5, 5), 0)


def soak(duration_s: float, seed: str) -> bool:
    """Runs the rig with faults; returns whether it stayed flat, always recovered, and leaked nothing."""
    rng, injected = random.Random(seed), Counter[str]()
    slowest: tuple[float, str] = (0.0, "")
    warm_up()
    before, there = held(), threading.enumerate()
    with ExitStack() as stack:
        bench = Bench(with_cameras(stack, duration_s + 300), mixed=True, serve=True, push=True, patient=True)
        try:
            bench.start()
            begun_s = time.monotonic()
            with Sampler(bench) as sampler:
                while (left_s := begun_s + duration_s - time.monotonic()) > 0:
                    time.sleep(min(left_s, rng.uniform(*CALM_S)))
                    if begun_s + duration_s - time.monotonic() < CALM_S[1]:
                        continue
                    name = rng.choice(sorted(FAULTS))
                    FAULTS[name](bench, random.Random(rng.random()))
                    injected[name] += 1
                    recovered_s = bench.watch.fused_again(time.monotonic(), RECOVERY_S)
                    slowest = max(slowest, (recovered_s, name))
                    now = ", ".join(f"{name} {points[-1][1]:.0f}" for name, points in sampler.series.items())
                    say(f"{time.monotonic() - begun_s:6.1f} s  {name}: fused again after {recovered_s:.1f} s; {now}")
            went_back, frames = bench.watch.went_back, bench.watch.frames
            lost = bench.lost()
        finally:
            bench.close()
    after = held_at_rest(before)
    say(f"{duration_s:.0f} s, {frames} frames, seed {seed}; {injected.total()} faults:")
    for name, count in sorted(injected.items()):
        say(f"  {count} x {name}")
    say(f"longest until fused again: {slowest[0]:.1f} s ({slowest[1] or 'no fault'})")
    say(f"lost by reason: {', '.join(f'{count} {reason}' for reason, count in lost.most_common()) or 'nothing'}")
    bounds = BOUNDS if duration_s >= SHORT_S else SHORT_BOUNDS
    flat = judge(sampler.series, bounds, "hour", 3600.0)
    say(
        f"threads {before.threads} before and {after.threads} after, descriptors {before.descriptors} and "
        f"{after.descriptors}"
    )
    if went_back:
        say("output times went back")
    return flat and not went_back and nothing_left(before, after, there)


def reconnect(times: int) -> bool:
    """Disconnects a camera repeatedly; returns whether nothing grows with the number of connections."""
    series: Series = {}
    with ExitStack() as stack:
        camera = RtspCamera(size="160x120", fps=25, life_s=60 + round(times * CONNECTION_S))
        stack.callback(camera.kill)
        relay = Relay(camera.port)
        stack.callback(relay.close)
        options = LiveOptions("tcp", None, 2_000_000_000, 2_000_000_000)
        backoff = Backoff(BackoffPolicy(first_ns=1, cap_ns=1))  # reconnect immediately
        source = LiveSource(
            f"rtsp://127.0.0.1:{relay.port}/cam", Band.VISIBLE, options, backoff=backoff, chance=lambda: 0.0
        )
        stop, begun_s = threading.Event(), time.monotonic()
        seen_of = seen = 0
        for _ in source.frames(stop):
            seen = seen + 1 if source.connections == seen_of else 1
            seen_of = source.connections
            if seen == CUT_EVERY:
                relay.cut()
                note(series, source.connections, held())
            if source.connections > times or time.monotonic() - begun_s > times * CONNECTION_S:
                stop.set()
        took_s = time.monotonic() - begun_s
    say(f"{source.connections} connections in {took_s:.0f} s, failures: {dict(source.failures)}")
    return judge(series, BOUNDS, "1000 connections", 1000.0) and source.connections > times


def seconds(text: str) -> float:
    try:
        return parse_duration_ns(text) / 1e9
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="soak_live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=seconds, default="30min", help="such as 60s; 30min if not given; 0s: none")
    parser.add_argument("--reconnects", type=int, default=0, help="then cut so many connections")
    parser.add_argument("--seed", default="", help="repeats the faults of a run; random if not given")
    options = parser.parse_args()
    if not gst_rtsp_server():
        parser.exit(2, f"soak_live: {MISSING}\n")
    logging.getLogger("fusepipe").addHandler(logging.NullHandler())  # hundreds of lost connections are what it is for
    seed = options.seed or f"{random.SystemRandom().getrandbits(32):08x}"
    checks: list[Callable[[], bool]] = []
    if options.duration:
        checks.append(lambda: soak(options.duration, seed))
    if options.reconnects:
        checks.append(lambda: reconnect(options.reconnects))
    try:
        passed = [check() for check in checks]
    except (NotRecoveredError, AssertionError) as error:
        say(f"seed {seed}: {error}")
        return 1
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
