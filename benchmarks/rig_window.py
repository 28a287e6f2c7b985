"""What rigs did between two readings of their processes: from ``/metrics`` of each, and from ``/proc``."""

from __future__ import annotations

import os
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

STAGES = ("pair", "register", "fuse")  # in order; after them the outputs and what runs beside
Buckets = dict[float, float]  # upper bound in s -> pairs up to it


@dataclass(slots=True)
class Reading:
    """Counters of one or more processes since their start."""

    at_s: float
    pairs: Counter[str] = field(default_factory=Counter)  # by rig
    frames: Counter[str] = field(default_factory=Counter)  # by band
    stage_cpu_s: Counter[str] = field(default_factory=Counter)  # by stage
    latency: dict[str, Buckets] = field(default_factory=lambda: defaultdict(dict))  # by rig
    cpu_s: float = 0.0
    switches: int = 0
    memory_mib: float = 0.0
    too_slow: list[str] = field(default_factory=list)  # rigs that say so


def read(pages: Sequence[tuple[str, int]], now_s: float) -> Reading:
    """``pages``: for each process the address of its page and its id. Raises ``OSError`` before a page answers."""
    found = Reading(now_s)
    for url, process in pages:
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            _add_metrics(found, answer.read().decode())
        _add_process(found, Path(f"/proc/{process}"))
    return found


def _add_metrics(found: Reading, text: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            match sample.name:
                case "fusepipe_pairs_total":
                    found.pairs[labels["rig"]] += round(value)
                case "fusepipe_frames_read_total":
                    found.frames[labels["band"]] += round(value)
                case "fusepipe_stage_cpu_seconds_total":
                    found.stage_cpu_s[labels["stage"]] += value  # type: ignore[assignment]
                case "fusepipe_latency_seconds_bucket":
                    found.latency[labels["rig"]][float(labels["le"])] = value
                case "fusepipe_overloaded" if value:
                    found.too_slow.append(labels["rig"])


def _add_process(found: Reading, folder: Path) -> None:
    used = (folder / "stat").read_text().rpartition(")")[2].split()
    found.cpu_s += (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    found.memory_mib += int(fields["VmRSS"].split()[0]) / 1024
    for task in (folder / "task").iterdir():
        try:
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        except OSError:  # the thread has ended
            continue
        found.switches += int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])


@dataclass(frozen=True, slots=True)
class Window:
    """The difference of two readings. Times of a pair are means; latencies are of the worst rig, from buckets."""

    rigs: int
    pairs_per_s: float
    slowest_pairs_per_s: float  # of the rig with the fewest
    cpu_ms: float  # of the processes, a pair
    stages_cpu_ms: float  # of that, what the stages of the rigs take
    switches: float  # of threads, a pair
    p50_ms: float
    p99_ms: float
    memory_mib: float
    too_slow: int
    camera_s: tuple[float, ...]  # CPU time of a frame of each camera
    stage_s: dict[str, float]  # and of a pair in each stage, in the order in which pairs pass them

    @classmethod
    def between(cls, before: Reading, after: Reading) -> Window:
        seconds = after.at_s - before.at_s
        pairs = after.pairs - before.pairs
        total = max(1, sum(pairs.values()))
        stages = {name: after.stage_cpu_s[name] - before.stage_cpu_s[name] for name in after.stage_cpu_s}
        frames = after.frames - before.frames
        cameras = [name for name in stages if name.startswith("read-")]
        latencies = [
            {bound: count - before.latency[rig].get(bound, 0) for bound, count in buckets.items()}
            for rig, buckets in after.latency.items()
        ]
        return cls(
            rigs=len(after.pairs),
            pairs_per_s=sum(pairs.values()) / seconds,
            slowest_pairs_per_s=min(pairs[rig] for rig in after.pairs) / seconds,
            cpu_ms=1e3 * (after.cpu_s - before.cpu_s) / total,
            stages_cpu_ms=1e3 * sum(stages.values()) / total,
            switches=(after.switches - before.switches) / total,
            p50_ms=1e3 * max(quantile(buckets, 0.5) for buckets in latencies),
            p99_ms=1e3 * max(quantile(buckets, 0.99) for buckets in latencies),
            memory_mib=after.memory_mib,
            too_slow=len(after.too_slow),
            camera_s=tuple(stages[name] / max(1, frames[name.removeprefix("read-")]) for name in cameras),
            stage_s={name: stages[name] / total for name in sorted(set(stages) - {*cameras}, key=_place)},
        )


def _place(stage: str) -> tuple[int, str]:
    return STAGES.index(stage) if stage in STAGES else len(STAGES), stage


def quantile(buckets: Buckets, share: float) -> float:
    """As Prometheus' ``histogram_quantile``: linear within a bucket; the last finite bound beyond it; NaN if empty."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return float("nan")
    wanted = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower
