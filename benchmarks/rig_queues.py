"""A simulation of rigs that share a machine: cameras, stages and queues as in :mod:`fusepipe.pipeline.graph`.

Each stage is a thread that serves one frame at a time; between two stages of a live rig waits at most one pair, and a
newer one replaces it. The threads that have work share the cores equally (processor sharing, as an operating system
does). Only the CPU time of each stage is given, measured with one rig, and how much it varies; throughput, drops and
latency follow. Rigs of one process share Python's interpreter lock: each pair makes its threads take it ``LOCK_TAKES``
times, and where the threads of other rigs want it too, each of these times it is handed over twice, one hand-over after
the other. That limits the pairs of a process, however many cores there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

STEP_S = 0.0005
LOCK_TAKES = 138
"""How often the threads of a rig take the interpreter lock for a pair: counted with a probe on ``PyEval_RestoreThread``
(two RTSP cameras, ``stream``, one page). It does not depend on the size of the images."""
HAND_OVERS = 2  # to another thread and back
SPREADS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5)


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds per frame of each camera, and per pair of each stage in order.

    ``other_s`` is what the process spends besides for each pair: it takes part of the cores, but no pair waits for it.
    ``spread`` is the standard deviation of the logarithm of a stage's time (0: always the same), ``hand_over_s`` the
    time in which one thread of a process hands the interpreter lock to another.
    """

    cameras: tuple[float, ...]
    stages: tuple[float, ...]
    other_s: float = 0.0
    spread: float = 0.0
    hand_over_s: float = 0.0

    @property
    def pair_s(self) -> float:
        """CPU seconds of a pair from its cameras to its outputs, and besides."""
        return sum(self.cameras) + sum(self.stages) + self.other_s


@dataclass(slots=True)
class _Thread:
    """``left_s``: CPU time until it is done with its frame, which was captured at ``frame_s``; ``None``: it waits."""

    cost_s: float
    left_s: float = 0.0
    frame_s: float | None = None


@dataclass(slots=True)
class _Rig:
    cameras: list[_Thread]
    stages: list[_Thread]
    other: _Thread
    next_s: list[float]  # when each camera takes its next frame
    arrived: list[float | None]  # newest frame of each camera
    waiting: list[float | None]  # the pair in front of each stage
    out: int = 0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def threads(self) -> tuple[_Thread, ...]:
        return (*self.cameras, *self.stages, self.other)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Pairs per second of all rigs, the cores in use, and the median and 99th percentile of latency: from the arrival
    of the later frame of a pair to its output."""

    pairs_per_s: float
    cores_used: float
    latency_p50_s: float
    latency_p99_s: float


def simulate(
    costs: Costs,
    rigs: int,
    fps: float,
    cores: float,
    seconds: float = 10.0,
    seed: int = 0,
    *,
    one_process: bool = False,
) -> Simulated:
    """``rigs`` equal rigs with ``fps`` frames per second each, with random phases, on ``cores`` cores.

    ``one_process``: their threads share an interpreter lock, see ``LOCK_TAKES``.
    """
    random = np.random.default_rng(seed)
    running = [_rig(costs, fps, random) for _ in range(rigs)]
    used_s = 0.0
    locked_s = LOCK_TAKES * HAND_OVERS * costs.hand_over_s  # of a pair
    locked_cores = costs.pair_s / locked_s if locked_s else cores
    for step in range(round(seconds / STEP_S)):
        now_s = step * STEP_S
        for rig in running:
            _hand_over(rig, now_s, 1 / fps, costs.spread, random)
        busy = [[t for t in rig.threads if t.frame_s is not None] for rig in running]
        threads = [thread for own in busy for thread in own]
        share = min(1.0, cores / len(threads)) * STEP_S if threads else 0.0
        if one_process and sum(map(bool, busy)) > 1:
            share = min(share, locked_cores / len(threads) * STEP_S)
        for thread in threads:
            used_s += min(share, thread.left_s)
            thread.left_s -= share
    latencies = [latency for rig in running for latency in rig.latencies_s]
    p50, p99 = map(float, np.percentile(latencies, (50, 99))) if latencies else (float("inf"), float("inf"))
    return Simulated(sum(rig.out for rig in running) / seconds, used_s / seconds, p50, p99)


def _rig(costs: Costs, fps: float, random: np.random.Generator) -> _Rig:
    return _Rig(
        [_Thread(c) for c in costs.cameras],
        [_Thread(c) for c in costs.stages],
        _Thread(costs.other_s),
        [float(random.uniform(0, 1 / fps)) for _ in costs.cameras],
        [None] * len(costs.cameras),
        [None] * len(costs.stages),
    )


def spread_of(costs: Costs, fps: float, cores: float, p99_s: float) -> Costs:
    """The costs with the spread of :data:`SPREADS` with which one rig has the measured p99."""

    def off(spread: float) -> float:
        return abs(simulate(replace(costs, spread=spread), 1, fps, cores, seconds=8).latency_p99_s - p99_s)

    return replace(costs, spread=min(SPREADS, key=off))


def _time_s(cost_s: float, spread: float, random: np.random.Generator) -> float:
    """A time with the mean ``cost_s``, log-normal."""
    return cost_s * float(np.exp(spread * random.standard_normal() - spread**2 / 2)) if spread else cost_s


def _hand_over(rig: _Rig, now_s: float, period_s: float, spread: float, random: np.random.Generator) -> None:
    """Frames that are done move on, from the output backwards; threads that wait take the next."""
    for index in reversed(range(len(rig.stages))):
        stage = rig.stages[index]
        if stage.frame_s is not None and stage.left_s <= 0:
            if index + 1 < len(rig.stages):
                rig.waiting[index + 1] = stage.frame_s  # replaces an older one
            else:
                rig.out += 1
                rig.latencies_s.append(now_s - stage.frame_s)
            stage.frame_s = None
    _pair(rig)
    for index, stage in enumerate(rig.stages):
        if stage.frame_s is None and rig.waiting[index] is not None:
            stage.frame_s, rig.waiting[index] = rig.waiting[index], None
            stage.left_s = _time_s(stage.cost_s, spread, random)
    for index, camera in enumerate(rig.cameras):
        if now_s < rig.next_s[index]:
            continue
        rig.next_s[index] += period_s
        for thread in (camera, rig.other) if index == 0 else (camera,):
            if thread.frame_s is None:  # else it is late and misses this frame
                thread.frame_s, thread.left_s = now_s, _time_s(thread.cost_s, spread, random)


def _pair(rig: _Rig) -> None:
    """Frames that have been read become a pair, once each camera has one."""
    if rig.other.left_s <= 0:
        rig.other.frame_s = None
    for index, camera in enumerate(rig.cameras):
        if camera.frame_s is not None and camera.left_s <= 0:
            rig.arrived[index], camera.frame_s = camera.frame_s, None
    captured = [frame_s for frame_s in rig.arrived if frame_s is not None]
    if len(captured) == len(rig.arrived):
        rig.waiting[0] = max(captured)
        rig.arrived = [None] * len(rig.arrived)


def hand_over_s(seconds: float = 0.2, times: int = 7) -> float:
    """In which a thread of this process wakes another one and hands the lock to it: the median of some measurements."""
    return float(np.median([_ping_pong(seconds) for _ in range(times)]))


def _ping_pong(seconds: float) -> float:
    ours, theirs, ended = threading.Lock(), threading.Lock(), threading.Event()
    theirs.acquire()

    def answer() -> None:
        while not ended.is_set():
            theirs.acquire()
            ours.release()

    thread = threading.Thread(target=answer)
    thread.start()
    count, begun_s = 0, time.perf_counter()
    while time.perf_counter() - begun_s < seconds:
        ours.acquire()
        theirs.release()
        count += 1
    taken_s = time.perf_counter() - begun_s
    ours.acquire()
    ended.set()
    theirs.release()
    thread.join()
    return taken_s / count / 2


def bottleneck(costs: Costs, fps: float, cores: float) -> int:
    """The number of rigs that ``cores`` cores serve without dropping a pair, from the sums alone."""
    return int(cores / (costs.pair_s * fps))


def worst_error(simulated: Sequence[float], measured: Sequence[float]) -> float:
    """The largest relative difference between a simulation and its measurement."""
    return max(abs(s - m) / m for s, m in zip(simulated, measured, strict=True))
