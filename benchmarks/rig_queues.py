"""A simulation of rigs that share a machine: cameras, stages and queues as in :mod:`fusepipe.pipeline.graph`.

Each stage is a thread that serves one frame at a time; between two stages of a live rig waits at most one pair, and a
newer one replaces it. The threads that have work share the cores equally (processor sharing, as an operating system
does). Only the CPU time of each stage is given, measured with one rig; throughput, drops and latency follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

STEP_S = 0.0005


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds per frame of each camera, and per pair of each stage in order.

    ``other_s`` is what the process spends besides for each pair: it takes part of the cores, but no pair waits for it.
    """

    cameras: tuple[float, ...]
    stages: tuple[float, ...]
    other_s: float = 0.0

    @classmethod
    def of_report(
        cls, stage_cpu_s: Mapping[str, float], frames: Mapping[str, int], pairs: int, pair_s: float = 0.0
    ) -> Costs:
        """From the record of a run with one rig: ``stage_cpu_s``, ``read`` and the number of pairs.

        ``pair_s`` is the CPU time of the process for a further pair, of which the stages are a part.
        """
        cameras = tuple(s / max(1, frames[k.removeprefix("read-")]) for k, s in stage_cpu_s.items() if k[:5] == "read-")
        stages = tuple(s / max(1, pairs) for k, s in stage_cpu_s.items() if k[:5] != "read-")
        return cls(cameras, stages, max(0.0, pair_s - sum(cameras) - sum(stages)))

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
    next_s: float  # when the cameras take their next frame
    arrived: list[float | None]  # newest frame of each camera
    waiting: list[float | None]  # the pair in front of each stage
    out: int = 0
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Pairs per second of all rigs, the cores in use, and the 99th percentile of latency from capture to output."""

    pairs_per_s: float
    cores_used: float
    latency_p99_s: float


def simulate(costs: Costs, rigs: int, fps: float, cores: float, seconds: float = 20.0, seed: int = 0) -> Simulated:
    """``rigs`` equal rigs with ``fps`` frames per second each, with random phases, on ``cores`` cores."""
    random = np.random.default_rng(seed)
    running = [
        _Rig(
            [_Thread(c) for c in costs.cameras],
            [_Thread(c) for c in costs.stages],
            _Thread(costs.other_s),
            float(random.uniform(0, 1 / fps)),
            [None] * len(costs.cameras),
            [None] * len(costs.stages),
        )
        for _ in range(rigs)
    ]
    used_s = 0.0
    for step in range(round(seconds / STEP_S)):
        now_s = step * STEP_S
        for rig in running:
            _hand_over(rig, now_s, 1 / fps)
        busy = [t for rig in running for t in (*rig.cameras, *rig.stages, rig.other) if t.frame_s is not None]
        share = min(1.0, cores / len(busy)) * STEP_S if busy else 0.0
        for thread in busy:
            used_s += min(share, thread.left_s)
            thread.left_s -= share
    latencies = [latency for rig in running for latency in rig.latencies_s]
    p99 = float(np.percentile(latencies, 99)) if latencies else float("inf")
    return Simulated(sum(rig.out for rig in running) / seconds, used_s / seconds, p99)


def _hand_over(rig: _Rig, now_s: float, period_s: float) -> None:
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
            stage.frame_s, stage.left_s, rig.waiting[index] = rig.waiting[index], stage.cost_s, None
    if now_s >= rig.next_s:
        rig.next_s += period_s
        for thread in (*rig.cameras, rig.other):
            if thread.frame_s is None:  # else it is late and misses this frame
                thread.frame_s, thread.left_s = now_s, thread.cost_s


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


def bottleneck(costs: Costs, fps: float, cores: float) -> int:
    """The number of rigs that ``cores`` cores serve without dropping a pair, from the sums alone."""
    return int(cores / (costs.pair_s * fps))


def worst_error(simulated: Sequence[float], measured: Sequence[float]) -> float:
    """The largest relative difference between a simulation and its measurement."""
    return max(abs(s - m) / m for s, m in zip(simulated, measured, strict=True))
