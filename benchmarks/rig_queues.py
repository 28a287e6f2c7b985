"""A simulation of rigs that share a machine: cameras, stages and queues as in :mod:`fusepipe.pipeline.graph`.

Each stage is a thread that serves one frame at a time; between two stages of a live rig waits at most one pair, and a
newer one replaces it. The threads that have work share the cores equally (processor sharing, as an operating system
does). Only the CPU time of each stage is given, measured, and how much it varies; throughput, drops and latency follow.

Rigs of one process share Python's interpreter lock. Each stage takes it a number of times for a frame, and waits for it
each time while another rig of the process works. Of small images one rig at a time (half as many as there are cores) is
in the fusion stage, where most of these waits are: that limits the pairs of a process, however many cores there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

STEP_S = 0.0005
LOCK_TAKES = {"read": 20, "pair": 15, "register": 4, "fuse": 75, "write-1": 4}
"""How often the thread of a stage takes the interpreter lock for a frame: 138 times a pair, counted with a probe on
``PyEval_RestoreThread`` (two RTSP cameras, ``stream``, one page). It does not depend on the size of the images."""
LOCK_WAIT_S = 40e-6
"""How long a thread waits for the lock each time while other rigs of its process work. Fitted to what eight rigs in one
process did on two idle cores: 178 pairs/s of 320x240, 77 and 109 of 640x480."""
FUSION = "fuse"
SMALL_PX = 640 * 480  # as in fusepipe.engines.backends.openvino.compute_gate
SPREADS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5)


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds per frame of each camera, and per pair of each stage in order; ``names`` are those of the stages.

    ``other_s`` is what the process spends besides for each pair: it takes part of the cores, but no pair waits for it.
    ``spread`` is the standard deviation of the logarithm of a stage's time (0: always the same). ``turns``: the rigs of
    a process take turns in the stage :data:`FUSION`.
    """

    cameras: tuple[float, ...]
    stages: tuple[float, ...]
    other_s: float = 0.0
    spread: float = 0.0
    names: tuple[str, ...] = ()
    turns: bool = False

    @property
    def pair_s(self) -> float:
        """CPU seconds of a pair from its cameras to its outputs, and besides."""
        return sum(self.cameras) + sum(self.stages) + self.other_s


@dataclass(slots=True)
class _Thread:
    """``left_s``: CPU time until it is done with its frame, which was captured at ``frame_s``; ``None``: it waits.

    ``wait_s``: time until then in which it waits for the interpreter lock, ``takes`` times.
    """

    cost_s: float
    takes: int = 0
    turns: bool = False
    left_s: float = 0.0
    wait_s: float = 0.0
    frame_s: float | None = None

    @property
    def done(self) -> bool:
        return self.frame_s is not None and self.left_s <= 0 and self.wait_s <= 0

    def begin(self, frame_s: float, left_s: float, *, contended: bool) -> None:
        self.frame_s, self.left_s = frame_s, left_s
        self.wait_s = self.takes * LOCK_WAIT_S if contended else 0.0


@dataclass(slots=True)
class _Rig:
    process: int
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

    @property
    def busy(self) -> bool:
        return any(thread.frame_s is not None for thread in self.threads)

    @property
    def in_turn(self) -> bool:
        return any(stage.turns and stage.frame_s is not None for stage in self.stages)


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
    processes: int | None = None,
) -> Simulated:
    """``rigs`` equal rigs with ``fps`` frames per second each, with random phases, on ``cores`` cores.

    ``processes``: in how many processes they run, ``None``: in one each.
    """
    random = np.random.default_rng(seed)
    count = processes or rigs
    running = [_rig(costs, fps, random, number % count) for number in range(rigs)]
    turns = max(1, int(cores / 2))
    used_s = 0.0
    for step in range(round(seconds / STEP_S)):
        now_s = step * STEP_S
        working = [Counter(r.process for r in running if r.busy), Counter(r.process for r in running if r.in_turn)]
        for rig in running:
            others = working[0][rig.process] - rig.busy
            _hand_over(rig, now_s, 1 / fps, costs.spread, random, others > 0, turns - working[1][rig.process])
            working[1][rig.process] = sum(one.in_turn for one in running if one.process == rig.process)
        running.append(running.pop(0))  # none is always the first to take its turn
        threads = []
        for rig in running:
            for thread in rig.threads:
                if thread.frame_s is not None and thread.wait_s > 0:
                    thread.wait_s -= STEP_S
                elif thread.frame_s is not None and thread.left_s > 0:
                    threads.append(thread)
        share = min(1.0, cores / len(threads)) * STEP_S if threads else 0.0
        for thread in threads:
            used_s += min(share, thread.left_s)
            thread.left_s -= share
    latencies = [latency for rig in running for latency in rig.latencies_s]
    p50, p99 = map(float, np.percentile(latencies, (50, 99))) if latencies else (float("inf"), float("inf"))
    return Simulated(sum(rig.out for rig in running) / seconds, used_s / seconds, p50, p99)


def _rig(costs: Costs, fps: float, random: np.random.Generator, process: int) -> _Rig:
    names = costs.names or ("",) * len(costs.stages)
    return _Rig(
        process,
        [_Thread(c, LOCK_TAKES["read"]) for c in costs.cameras],
        [
            _Thread(c, LOCK_TAKES.get(name, 0), turns=costs.turns and name == FUSION)
            for c, name in zip(costs.stages, names, strict=True)
        ],
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


def _hand_over(
    rig: _Rig, now_s: float, period_s: float, spread: float, random: np.random.Generator, contended: bool, turns: int
) -> None:
    """Frames that are done move on, from the output backwards; threads that wait take the next.

    ``contended``: other rigs of the process work. ``turns``: how many more rigs may be in the stage with turns.
    """
    for index in reversed(range(len(rig.stages))):
        stage = rig.stages[index]
        if stage.frame_s is not None and stage.done:
            turns += stage.turns
            if index + 1 < len(rig.stages):
                rig.waiting[index + 1] = stage.frame_s  # replaces an older one
            else:
                rig.out += 1
                rig.latencies_s.append(now_s - stage.frame_s)
            stage.frame_s = None
    _pair(rig)
    for index, stage in enumerate(rig.stages):
        paired_s = rig.waiting[index]
        if stage.frame_s is None and paired_s is not None and (turns > 0 or not stage.turns):
            rig.waiting[index] = None
            stage.begin(paired_s, _time_s(stage.cost_s, spread, random), contended=contended)
    for index, camera in enumerate(rig.cameras):
        if now_s < rig.next_s[index]:
            continue
        rig.next_s[index] += period_s
        for thread in (camera, rig.other) if index == 0 else (camera,):
            if thread.frame_s is None:  # else it is late and misses this frame
                thread.begin(now_s, _time_s(thread.cost_s, spread, random), contended=contended)


def _pair(rig: _Rig) -> None:
    """Frames that have been read become a pair, once each camera has one."""
    if rig.other.done:
        rig.other.frame_s = None
    for index, camera in enumerate(rig.cameras):
        if camera.frame_s is not None and camera.done:
            rig.arrived[index], camera.frame_s = camera.frame_s, None
    captured = [frame_s for frame_s in rig.arrived if frame_s is not None]
    if len(captured) == len(rig.arrived):
        rig.waiting[0] = max(captured)
        rig.arrived = [None] * len(rig.arrived)


def bottleneck(costs: Costs, fps: float, cores: float) -> int:
    """The number of rigs that ``cores`` cores serve without dropping a pair, from the sums alone."""
    return int(cores / (costs.pair_s * fps))


def worst_error(simulated: Sequence[float], measured: Sequence[float]) -> float:
    """The largest relative difference between a simulation and its measurement."""
    return max(abs(s - m) / m for s, m in zip(simulated, measured, strict=True))
