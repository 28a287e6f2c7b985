"""``fusepipe bench --against ffmpeg``: CPU time a pair beside that of ffmpeg, which decodes both, averages and encodes.

The same clips, the same codecs and encoder settings, in turn; the infrared image is only stretched to the visible size.
Start-up is left out: each program runs for all pairs and for a quarter of them, and the difference is counted. CPU time
hardly depends on other load, so the ratio holds on a busy machine too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.sinks.files.video import VideoOptions, encoder_options
from fusepipe.rig.api import Pipeline
from fusepipe.workflows.bench.clips import FPS, Clips

ROUNDS = 2
"""Runs of each length; the shortest time counts."""
WAIT_S = 600
PROC_SELF = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class RunCost:
    """Of one run: its pairs, CPU and wall seconds, and the memory pages that the system had to map.

    ``page_faults`` is ``None`` where they are not counted.
    """

    pairs: int
    cpu_s: float
    page_faults: int | None = None
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Against:
    """CPU ms per pair after start-up of fusepipe and of ffmpeg, and fusepipe's memory pages mapped per pair.

    ``pairs_per_s``: fusepipe's pairs per second after start-up, 0 where other programs used the cores.
    ``peak_mib`` is the largest resident memory of a run alone; ``None`` where the system does not report it.
    """

    ours_cpu_ms: float
    ffmpeg_cpu_ms: float
    page_faults: float
    peak_mib: float | None
    pairs_per_s: float = 0.0

    @property
    def ratio_percent(self) -> float:
        """ffmpeg's CPU time in percent of fusepipe's: 100 is as fast as ffmpeg."""
        return 100 * self.ffmpeg_cpu_ms / self.ours_cpu_ms if self.ours_cpu_ms > 0 else float("inf")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "ratio_percent": round(self.ratio_percent, 1)}


def find_ffmpeg() -> str:
    """The program; raises :class:`UsageError` where it is not installed."""
    path = shutil.which("ffmpeg")
    if path is None:
        raise UsageError("ffmpeg is not installed, which --against compares with: install it (apt install ffmpeg)")
    return path


def cost_after_start(costs: Sequence[RunCost]) -> tuple[float, float]:
    """(CPU ms, pages mapped) per pair of the longest runs beyond the shortest ones.

    Of several runs of one length the least of each counts. Raises :class:`UsageError` for runs of one length only.
    """
    few, many = _shortest_and_longest(costs)
    pairs = many[0].pairs - few[0].pairs
    seconds = min(cost.cpu_s for cost in many) - min(cost.cpu_s for cost in few)
    pages = min(cost.page_faults or 0 for cost in many) - min(cost.page_faults or 0 for cost in few)
    return round(max(0.0, 1e3 * seconds / pairs), 3), round(max(0, pages) / pairs, 1)


def rate_after_start(costs: Sequence[RunCost]) -> float:
    """Pairs per second of the longest runs beyond the shortest ones; raises as :func:`cost_after_start`.

    0 where the shortest took as long as the longest: other programs were in the way.
    """
    few, many = _shortest_and_longest(costs)
    seconds = min(cost.wall_s for cost in many) - min(cost.wall_s for cost in few)
    return round((many[0].pairs - few[0].pairs) / seconds, 2) if seconds > 0 else 0.0


def _shortest_and_longest(costs: Sequence[RunCost]) -> tuple[list[RunCost], list[RunCost]]:
    lengths = sorted({cost.pairs for cost in costs})
    if len(lengths) < 2:
        raise UsageError("the clips are too short to leave the start-up out: use more --pairs")
    few, many = ([cost for cost in costs if cost.pairs == pairs] for pairs in (lengths[0], lengths[-1]))
    return few, many


def measure_against(
    clips: Clips, rig: Rig, open_fuser: Callable[[], Fuser], encoding: VideoOptions, peak: float | None
) -> Against:
    """Runs both in turn over a quarter and over all of the clips; ``rig`` reads them and writes one file.

    ``open_fuser`` gives a fuser for each run, ``peak`` is :attr:`Against.peak_mib`. Raises :class:`FusepipeError` where
    a run fails.
    """
    ffmpeg, ours, others = find_ffmpeg(), [], []
    for _ in range(ROUNDS):
        for pairs in (max(1, clips.pairs // 4), clips.pairs):
            ours.append(_own_cost(rig, open_fuser(), pairs))
            others.append(_ffmpeg_cost(ffmpeg, clips, pairs, encoding))
    cpu_ms, page_faults = cost_after_start(ours)
    return Against(cpu_ms, cost_after_start(others)[0], page_faults, peak, rate_after_start(ours))


def _own_cost(rig: Rig, fuser: Fuser, pairs: int) -> RunCost:
    pipeline = Pipeline(rig, fuser=fuser, max_pairs=pairs, overwrite=True)
    began_s, before_s, before = time.monotonic(), time.process_time(), page_faults()
    report = pipeline.run()
    wall_s, seconds, after = time.monotonic() - began_s, time.process_time() - before_s, page_faults()
    pages = None if before is None or after is None else after - before
    return RunCost(sum(report.pairs.values()), seconds, pages, wall_s)


def page_faults(proc: Path = PROC_SELF) -> int | None:
    """Pages of memory that this process had mapped without reading a disk; ``None`` where that is not reported."""
    try:
        return int((proc / "stat").read_text().rpartition(")")[2].split()[7])
    except (OSError, ValueError, IndexError):
        return None


def peak_mib(proc: Path = PROC_SELF) -> float | None:
    """The largest resident memory of this process so far, in MiB; ``None`` where that is not reported."""
    try:
        line = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 1024, 1)
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _ffmpeg_cost(ffmpeg: str, clips: Clips, pairs: int, encoding: VideoOptions) -> RunCost:
    before = os.times()
    done = subprocess.run(
        ffmpeg_command(ffmpeg, clips, pairs, encoding), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    after = os.times()
    if done.returncode:
        raise FusepipeError(
            f"ffmpeg failed: {(done.stderr.strip() or f'exit code {done.returncode}').splitlines()[-1]}"
        )
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return RunCost(pairs, cpu_s)


def ffmpeg_command(ffmpeg: str, clips: Clips, pairs: int, encoding: VideoOptions) -> list[str]:
    """Decodes both with one thread each, as fusepipe does, averages the luma and encodes with the sink's settings."""
    width, height = clips.visible_size
    stretched = f"[0:v]scale={width}:{height}:flags=bilinear,format=yuv420p[infrared]"
    averaged = "[1:v][infrared]blend=c0_mode=average"
    options = [word for key, value in encoder_options("h264", encoding, FPS).items() for word in (f"-{key}", value)]
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-y"),
        *("-threads", "1", "-i", str(clips.infrared), "-threads", "1", "-i", str(clips.visible)),
        *("-filter_complex", f"{stretched};{averaged}", "-frames:v", str(pairs), "-c:v", "libx264"),
        *options,
        str(_beside(clips.visible)),
    ]


def _beside(clip: Path) -> Path:
    return clip.with_name("ffmpeg.mkv")
