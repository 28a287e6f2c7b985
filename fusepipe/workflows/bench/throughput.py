"""``fusepipe bench``: throughput in pairs per second, against the arithmetic limit of the cores.

Two recorded H.264 streams of the synthetic street go through the whole pipeline, into an H.264 file.
Then each stage runs alone (:mod:`fusepipe.workflows.bench.stages`); with the summed CPU time of a pair,
``limit = cores / summed seconds``: no schedule of these stages on these cores can be faster. The rest is the cost of
threads, queues and waiting.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fusepipe.config.schema import Rig
from fusepipe.core import machine
from fusepipe.core.fuser import Fuser
from fusepipe.core.version import __version__
from fusepipe.pipeline.sinks.files.video import VideoOptions
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.from_options import rig_from_options
from fusepipe.workflows.bench.against import Against, find_ffmpeg, measure_against
from fusepipe.workflows.bench.clips import Clips, render_clips
from fusepipe.workflows.bench.copies import StageMemory, count_copies
from fusepipe.workflows.bench.own_process import run_peak_mib
from fusepipe.workflows.bench.stages import StageCost, measure_stages, registration_for

STAT = Path("/proc/stat")
BUSY_CORES = 0.1
"""With more of other programs, wall times are theirs too."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Sizes are (width, height) in pixels; each part of the measurement ends after ``time_limit_s``.

    ``against``: measures ffmpeg too, see :mod:`fusepipe.workflows.bench.against`.
    """

    visible_size: tuple[int, int] = (640, 480)
    infrared_size: tuple[int, int] = (320, 240)
    pairs: int = 300
    model: str = "stream"
    backend: str = "auto"
    precision: str = "auto"
    preset: str = "superfast"
    time_limit_s: float = 120.0
    against: bool = False

    def rig(self, infrared: str, visible: str, sinks: list[dict[str, Any]]) -> Rig:
        """The rig of these two inputs. Raises :class:`UsageError` for an invalid option."""
        return rig_from_options(self.body(infrared, visible, sinks))

    def body(self, infrared: str, visible: str, sinks: list[dict[str, Any]]) -> dict[str, Any]:
        """The rig as plain values; the synthetic street's calibration is exact for both kinds of input."""
        return {
            "name": "bench",
            "infrared": {"url": infrared},
            "visible": {"url": visible},
            "registration": {"calibration": "synthetic://street"},
            "fusion": {"model": self.model, "backend": self.backend, "precision": self.precision},
            "sinks": sinks,
        }


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """The whole pipeline.

    ``latency_ms`` includes the queues, which are full when files are read at full speed. ``cpu_ms``: process CPU time
    per pair, all threads; ``cores_used``: CPU time over wall time. ``cores_of_others``: cores used by other programs,
    ``None`` where the system does not report it. ``thread_cpu_ms``: CPU time per pair of each stage,
    on Linux with the threads of engines and codecs.
    """

    pairs: int
    seconds: float
    pairs_per_s: float
    latency_ms: dict[str, float]
    cpu_ms: float
    cores_used: float
    cores_of_others: float | None
    thread_cpu_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All figures of one measurement; ``notes`` are remarks for the reader."""

    machine: dict[str, Any]
    engine: dict[str, Any]
    clips: dict[str, Any]
    end_to_end: EndToEnd
    stages: list[StageCost]
    notes: list[str] = field(default_factory=list)
    version: str = __version__
    against: Against | None = None
    copies: list[StageMemory] = field(default_factory=list)

    @property
    def stage_cpu_ms(self) -> float:
        """CPU time per pair, summed over the stages."""
        return sum(stage.cpu_ms for stage in self.stages)

    @property
    def limit_pairs_per_s(self) -> float:
        """cores / summed CPU seconds per pair."""
        return arithmetic_limit(self.machine["cores"], self.stage_cpu_ms)

    @property
    def share_percent(self) -> float:
        """Throughput in percent of the limit."""
        return 100 * self.end_to_end.pairs_per_s / self.limit_pairs_per_s

    @property
    def share_of_free_percent(self) -> float | None:
        """Throughput in percent of the limit of the cores left by other programs; ``None`` where not known."""
        others = self.end_to_end.cores_of_others
        free = None if others is None else self.machine["cores"] - others
        if free is None or free <= 0:
            return None
        return 100 * self.end_to_end.pairs_per_s / arithmetic_limit(free, self.stage_cpu_ms)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        free = self.share_of_free_percent
        return {
            **asdict(self),
            "against": None if self.against is None else self.against.as_json(),
            "stage_cpu_ms": round(self.stage_cpu_ms, 3),
            "limit_pairs_per_s": round(self.limit_pairs_per_s, 2),
            "share_percent": round(self.share_percent, 1),
            "share_of_free_percent": None if free is None else round(free, 1),
        }


def arithmetic_limit(cores: float, cpu_ms: float) -> float:
    """Pairs per second of ``cores`` where a pair takes ``cpu_ms`` of CPU time."""
    return cores / (cpu_ms / 1e3) if cpu_ms > 0 else float("inf")


def measure_throughput(options: BenchOptions) -> BenchReport:
    """Renders the clips into a temporary folder, runs the pipeline, then each stage alone."""
    with tempfile.TemporaryDirectory(prefix="fusepipe-bench-") as name:
        folder = Path(name)
        if options.against:
            find_ffmpeg()
        fuser = _fuser(options)  # errors come before the rendering
        encoding = VideoOptions(preset=options.preset)
        sinks = [{"file": str(folder / "fused.mkv"), "preset": options.preset}]
        rig = options.rig(str(folder / "infrared.mkv"), str(folder / "visible.mkv"), sinks)
        clips = render_clips(folder, options.visible_size, options.infrared_size, options.pairs, options.time_limit_s)
        end_to_end, engine = _end_to_end(rig, fuser, clips, options.time_limit_s)
        notes = _notes(options, clips, end_to_end)
        against = None
        if options.against:
            body = options.body(str(clips.infrared), str(clips.visible), sinks)
            peak = run_peak_mib(folder, body, options.time_limit_s)
            against = measure_against(clips, rig, lambda: _fuser(options), encoding, peak)
            if (end_to_end.cores_of_others or 0.0) > BUSY_CORES:
                against = replace(against, pairs_per_s=0.0)  # the difference of two wall times is chance then
        with _fuser(options) as fuser:
            stages = measure_stages(clips, fuser, encoding, folder / "alone.mkv")
            copies = count_copies(clips, fuser, encoding, folder / "counted.mkv")
        measured = (_machine(), engine, clips.as_json(), end_to_end, stages, notes)
        return BenchReport(*measured, against=against, copies=copies)


def _fuser(options: BenchOptions) -> Fuser:
    return load_fuser(options.model, options.backend, options.precision)


def _machine() -> dict[str, Any]:
    return {"cpu": machine.processor().name, "cores": machine.usable_cores()}


def _notes(options: BenchOptions, clips: Clips, run: EndToEnd) -> list[str]:
    notes = []
    if clips.pairs < options.pairs:
        notes.append(f"{clips.pairs} pairs instead of {options.pairs}: rendering reached the time limit")
    if run.pairs < clips.pairs:
        notes.append(f"stopped after {run.pairs} pairs: the time limit")
    if run.cores_of_others is not None and run.cores_of_others > BUSY_CORES:
        notes.append(f"other programs used {run.cores_of_others:.1f} cores meanwhile: an idle machine is faster")
    return notes


def _end_to_end(rig: Rig, fuser: Fuser, clips: Clips, time_limit_s: float) -> tuple[EndToEnd, dict[str, Any]]:
    levels = registration_for(clips, fuser).visible_levels(clips.infrared_size, clips.visible_size)
    width, height = (side >> levels for side in clips.visible_size)
    fuser.prepare(height, width)  # compiling does not count
    pipeline = Pipeline(rig, fuser=fuser)
    own_s, busy_s = time.process_time(), busy_seconds()
    pipeline.start()
    if not pipeline.wait(time_limit_s):
        pipeline.drain()
        pipeline.wait()
    own_s = time.process_time() - own_s
    total_s = None if busy_s is None else (busy_seconds() or busy_s) - busy_s
    pipeline.raise_error()
    report = pipeline.report()
    pairs = max(1, sum(report.pairs.values()))
    # the system counts in hundredths of a second: a short run could otherwise show more cores than there are
    room = max(0.0, machine.usable_cores() - own_s / report.seconds)
    others = None if total_s is None else min(room, max(0.0, (total_s - own_s) / report.seconds))
    return EndToEnd(
        pairs=sum(report.pairs.values()),
        seconds=report.seconds,
        pairs_per_s=report.pairs_per_s,
        latency_ms=report.latency_ms,
        cpu_ms=round(1e3 * own_s / pairs, 3),
        cores_used=round(own_s / report.seconds, 2),
        cores_of_others=None if others is None else round(others, 2),
        thread_cpu_ms={stage: round(1e3 * seconds / pairs, 3) for stage, seconds in report.stage_cpu_s.items()},
    ), report.engine


def busy_seconds(stat: Path = STAT) -> float | None:
    """CPU seconds used by all programs of the machine; ``None`` where the system does not report it."""
    try:
        fields = stat.read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in fields[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
