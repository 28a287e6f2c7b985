"""``fusepipe bench --memory``: the largest memory of a run, and what of it each part holds."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError
from fusepipe.workflows.bench.clips import render_clips
from fusepipe.workflows.bench.own_process import in_own_process, run_peak_mib
from fusepipe.workflows.bench.throughput import BenchOptions

FLOOR = ("python", "libraries")
"""The parts that are there before anything is opened."""
UNDER_WAY = "frames under way"


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """What one part adds to the resident memory: anonymous memory, and pages of files such as libraries' code."""

    name: str
    anonymous_mib: float
    file_mib: float


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """A run at these sizes, (width, height). ``parts`` sum up to ``peak_mib``, the largest resident memory of the run.

    The last part is the difference between the run and its parts: frames in the queues and in the stages' hands.
    """

    visible_size: tuple[int, int]
    infrared_size: tuple[int, int]
    pairs: int
    peak_mib: float
    parts: list[MemoryPart]

    @property
    def floor_mib(self) -> float:
        """Python and all libraries after their import."""
        return round(sum(part.anonymous_mib + part.file_mib for part in self.parts if part.name in FLOOR), 1)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **asdict(self),
            "floor_mib": self.floor_mib,
            "above_floor_mib": round(self.peak_mib - self.floor_mib, 1),
        }


def measure_memory(options: BenchOptions) -> MemoryUse:
    """Renders the clips, then measures a whole run and its parts, each in a process of its own.

    Raises :class:`FusepipeError` where a process fails or the system does not report memory.
    """
    limit_s = options.time_limit_s
    with tempfile.TemporaryDirectory(prefix="fusepipe-bench-") as name:
        folder = Path(name)
        clips = render_clips(folder, options.visible_size, options.infrared_size, options.pairs, limit_s)
        sinks = [{"file": str(folder / "fused.mkv"), "preset": options.preset}]
        peak = run_peak_mib(folder, options.body(str(clips.infrared), str(clips.visible), sinks), limit_s)
        asked = {
            "measure": "parts",
            "infrared": str(clips.infrared),
            "visible": str(clips.visible),
            "width": options.visible_size[0],
            "height": options.visible_size[1],
            "model": options.model,
            "backend": options.backend,
            "precision": options.precision,
            "preset": options.preset,
            "output": str(folder / "alone.mkv"),
        }
        found = in_own_process(folder, asked, limit_s)["parts"]
    if peak is None or not any(part["anonymous_kib"] for part in found):
        raise FusepipeError("this system does not report the memory of a process (/proc/self/smaps_rollup)")
    parts = [
        MemoryPart(part["name"], round(part["anonymous_kib"] / 1024, 1), round(part["file_kib"] / 1024, 1))
        for part in found
    ]
    rest = peak - sum(part.anonymous_mib + part.file_mib for part in parts)
    parts.append(MemoryPart(UNDER_WAY, round(rest, 1), 0.0))
    return MemoryUse(options.visible_size, options.infrared_size, clips.pairs, peak, parts)
