"""Clips in segments whose workers or whose batch are killed: nothing differs, and nothing is fused twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.batch_clip import Batch, entry
from helpers.made_clips import write_clip, write_counts
from helpers.waiting import wait_for

from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.segment_files import segments_folder

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(500)]

SEGMENTS = 6
# 16-bit infrared: its gain control is handed over from process to process
SETTINGS = {"fusion.model": "mean", "sync.max_hold": "300ms", "sink.codec": "ffv1", "sink.sidecar": "on"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 7 s, its manifest, and the folder ``whole`` with what one run makes of it."""
    folder = tmp_path_factory.mktemp("clip")
    write_counts(folder / "ir.mkv", range(0, 7000, 40), (160, 120))
    write_clip(folder / "vis.mkv", range(0, 7000, 40), (320, 240))
    row = {"infrared": "ir.mkv", "visible": "vis.mkv", "output": "a.mkv", **SETTINGS}
    (folder / "clips.jsonl").write_text(json.dumps(row) + "\n")
    with KeptEngine() as engine:
        assert Batch(entry(folder, **SETTINGS), folder / "whole", None, engine).run().status == "finished"
    return folder


@contextmanager
def batch(folder: Path, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    words = ["batch", str(folder / "clips.jsonl"), "--out", str(out), "--segments", str(SEGMENTS), "--json", *options]
    command = [sys.executable, "-m", "fusepipe", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The only clip of a batch that has ended well."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    [clip] = json.loads(output)["clips"]
    assert clip["status"] == "finished" and clip["segments"] == SEGMENTS, clip["warnings"]
    return dict(clip)


def files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("a.mkv", "a.jsonl")}


def records(out: Path) -> list[str]:
    """The finished segments."""
    return sorted(path.name for path in segments_folder(out, "a.mkv").glob("[0-9]*.json"))


def stopped_within_a_segment(out: Path, workers: Callable[[], list[psutil.Process]]) -> psutil.Process:
    """A worker that is stopped while it writes a segment."""
    found: list[psutil.Process] = []

    def stopped() -> bool:
        if not list((out / ".batch" / "unfinished").glob("*/segment.partial.mkv")):
            return False
        for worker in workers():
            try:
                worker.suspend()
                if any("segment.partial.mkv" in file.path for file in worker.open_files()):
                    found.append(worker)
                    return True
                worker.resume()
            except psutil.NoSuchProcess:
                continue  # it has ended meanwhile
        return False

    wait_for(stopped, timeout_s=240)
    return found[0]


def spawned(batch: int) -> list[psutil.Process]:
    """The worker processes of a batch."""
    return [one for one in psutil.Process(batch).children() if "spawn_main" in " ".join(one.cmdline())]


def actors(batch: int) -> list[psutil.Process]:
    """The actors that fuse now, of the cluster that a batch has started."""
    found = psutil.Process(batch).children(recursive=True)
    return [one for one in found if "_ClipActor.fuse" in " ".join(one.cmdline())]


@pytest.mark.parametrize("pool", ["processes", "ray"])
def test_a_worker_that_is_killed_costs_its_segment_only(pool: str, whole: Path, tmp_path: Path) -> None:
    options, workers = ["--workers", "2"], spawned
    if pool == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
        options, workers = [*options, "--ray", "local"], actors
    with batch(whole, tmp_path, *options) as process:
        stopped_within_a_segment(tmp_path, lambda: workers(process.pid)).kill()
        clip = ended(process)
    assert files(tmp_path) == files(whole / "whole")
    assert clip["segments_kept"] == 0
    assert not list((tmp_path / ".batch").glob("unfinished/*"))


@pytest.mark.parametrize("pool", ["processes", "ray"])
def test_a_batch_that_is_killed_keeps_its_finished_segments(pool: str, whole: Path, tmp_path: Path) -> None:
    options = ["--workers", "1"]
    if pool == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
        options += ["--ray", "local"]
    with batch(whole, tmp_path, *options) as process:
        wait_for(lambda: records(tmp_path) or process.poll() is not None, timeout_s=240)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(20)
        psutil.wait_procs(family, 60)  # they end with it, so that none of them finishes a segment now
    before = records(tmp_path)
    assert 0 < len(before) < SEGMENTS and not (tmp_path / "a.mkv").exists()
    with batch(whole, tmp_path, *options) as again:
        clip = ended(again)
    assert clip["segments_kept"] == len(before), "what was finished is not fused again"
    assert files(tmp_path) == files(whole / "whole")
