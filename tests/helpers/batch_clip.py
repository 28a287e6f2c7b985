"""One clip of a batch, and its tasks one after another in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult, run_clip
from fusepipe.workflows.batch.clip_queue import ClipQueue
from fusepipe.workflows.batch.dispatch import begin_segments
from fusepipe.workflows.batch.entries import BatchEntry, read_entries
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.rows import ManifestRow
from fusepipe.workflows.batch.segment_plan import SegmentChoice


def entry(folder: Path, output: str = "a.mkv", **row: Any) -> BatchEntry:
    """The clip ``ir.mkv`` and ``vis.mkv`` of a folder, with a short hold."""
    values = {
        "infrared": str(folder / "ir.mkv"), "visible": str(folder / "vis.mkv"), "output": output,
        "fusion.model": "mean", "sync.max_hold": "300ms", "sink.codec": "ffv1" if output.endswith(".mkv") else "h264",
    }  # fmt: skip
    return read_entries([ManifestRow(2, values | row)], "clips.csv", folder / "out")[0]


class Batch:
    """The tasks of one clip, one after another in this process."""

    def __init__(
        self,
        clip: BatchEntry,
        out: Path,
        choice: SegmentChoice | None,
        engine: KeptEngine,
        metrics: tuple[str, ...] = (),
    ) -> None:
        self.results: list[ClipResult] = []
        self._queue = ClipQueue([clip], 0, lambda: 0.0)
        self._out, self._choice, self._engine, self._metrics = out, choice, engine, metrics

    def step(self) -> ClipResult | None:
        """The next task; ``None`` after the last."""
        if self._queue.done:
            return None
        begin_segments(self._queue, self._out)
        task = self._queue.next(0.0)
        assert task is not None
        job = ClipJob(task, self._out, metrics=self._metrics, segments=self._choice)
        result = run_clip(job, self._engine)
        self._queue.note(result, 0.0)
        self.results.append(result)
        return result

    def run(self) -> ClipResult:
        """All tasks; the result of the clip."""
        while self.step():
            pass
        [ended] = self._queue.ended()
        return ended
