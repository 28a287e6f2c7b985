"""``fusepipe batch``: outputs as those of ``fuse``, resumed by hash, and nothing lost to what goes wrong."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from helpers.waiting import wait_for

from fusepipe.cli import cli
from fusepipe.core.errors import FusepipeError, SinkError
from fusepipe.workflows.bench.clips import render_clips

pytestmark = pytest.mark.timeout(400)  # each worker imports everything, also on a busy machine

HEADER = "infrared,visible,output,fusion.model"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 12 frames, the folders ``ir`` and ``vis`` of three images, and files that are no videos."""
    folder = tmp_path_factory.mktemp("clips")
    render_clips(folder, (96, 64), (48, 32), 12, 60.0)
    for name in ("ir", "vis"):
        (folder / name).mkdir()
        for index in range(3):
            assert cv2.imwrite(str(folder / name / f"{index}.png"), np.full((32, 48), 40 * index, np.uint8))
    (folder / "empty.mkv").touch()
    (folder / "corrupt.mkv").write_bytes((folder / "infrared.mkv").read_bytes()[:300])
    return folder


def batch(folder: Path, rows: str, *options: str, out: Path | None = None) -> Result:
    """Runs a batch of these rows in ``folder``, into ``out`` or its folder ``out``, by default with one worker."""
    words = command(folder, rows, "--workers", "1", *options, out=out)
    return CliRunner().invoke(cli, words[3:], obj=tuple(words[3:]))


def command(folder: Path, rows: str, *options: str, out: Path | None = None) -> list[str]:
    manifest = folder / "clips.csv"
    manifest.write_text(f"{HEADER}\n{rows}")
    return [
        sys.executable, "-m", "fusepipe", "batch", str(manifest), "--out", str(out or folder / "out"), *options
    ]  # fmt: skip


def worker_of(batch: int) -> psutil.Process:
    """The one worker of a batch; its other child tracks resources."""
    children = [child for child in psutil.Process(batch).children() if child.status() != psutil.STATUS_ZOMBIE]
    [worker] = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return worker


def hashes(out: Path) -> dict[str, str]:
    """SHA-256 of all files of a folder but reports and state, by name."""
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    named = {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {name: value for name, value in named.items() if not name.startswith((".batch/", "batch."))}


def report(out: Path) -> dict[str, dict[str, str]]:
    """The rows of batch.csv by output."""
    with (out / "batch.csv").open(newline="") as file:
        return {row["output"]: row for row in csv.DictReader(file)}


@pytest.fixture
def place(clips: Path, tmp_path: Path) -> Path:
    """A copy of the clips."""
    shutil.copytree(clips, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.slow
def test_outputs_are_those_of_fuse_and_bad_clips_are_set_aside(place: Path) -> None:
    rows = (
        "infrared.mkv,visible.mkv,a.mkv,mean\nir,vis,sub/b/,mean\nir/0.png,vis/0.png,c.png,mean\n"
        "missing.mkv,visible.mkv,d.mkv,mean\nempty.mkv,visible.mkv,e.mkv,mean\ncorrupt.mkv,visible.mkv,f.mkv,mean\n"
    )
    ran = batch(place, rows, "--workers", "2")
    assert ran.exit_code == 3, ran.stderr
    lines = report(place / "out")
    assert [row["status"] for row in lines.values()] == ["finished"] * 3 + ["failed"] * 3
    assert [row["line"] for row in lines.values()] == ["2", "3", "4", "5", "6", "7"]
    assert "no such file" in lines["d.mkv"]["error"] and "is empty" in lines["e.mkv"]["error"]
    assert "FFmpeg cannot read" in lines["f.mkv"]["error"] and lines["a.mkv"]["states"] == "fused=12"
    assert "d.mkv" in ran.stderr and "6 clips: 3 finished, 0 skipped, 3 failed" in ran.stdout
    page = (place / "out" / "batch.html").read_text()
    assert "3 of 6 clips failed" in page and "no such file" in page
    alone = place / "alone"
    for infrared, visible, output in (
        ("infrared.mkv", "visible.mkv", "a.mkv"), ("ir", "vis", "sub/b/"), ("ir/0.png", "vis/0.png", "c.png")
    ):  # fmt: skip
        words = ["fuse", str(place / infrared), str(place / visible), "-o", f"{alone}/{output}", "--model", "mean"]
        assert CliRunner().invoke(cli, words).exit_code == 0
    assert hashes(place / "out") == hashes(alone)
    assert not (place / "out" / ".batch" / "unfinished").exists()


def test_frames_that_cannot_be_read_are_a_warning_of_their_clip(place: Path) -> None:
    """The copy of a clip broke off: what there is, is fused, and nobody looks at each of a thousand clips."""
    with av.open(str(place / "long.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gray"
        for pixels in np.random.default_rng(1).integers(0, 256, (5, 64, 96), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode(None))
    data = (place / "long.mkv").read_bytes()
    (place / "cut.mkv").write_bytes(data[: len(data) // 2])
    ran = batch(place, "infrared.mkv,cut.mkv,a.mkv,mean\ninfrared.mkv,visible.mkv,b.mkv,mean\n")
    assert ran.exit_code == 0, ran.stderr
    lines = report(place / "out")
    assert lines["a.mkv"]["warnings"].startswith("1 unreadable visible") and not lines["b.mkv"]["warnings"]


@pytest.mark.slow
def test_finished_outputs_are_verified_and_only_what_changed_is_made_again(place: Path) -> None:
    rows = "".join(f"infrared.mkv,visible.mkv,{name}.mkv,mean\n" for name in "abc")
    assert batch(place, rows).exit_code == 0
    first, out = hashes(place / "out"), place / "out"
    (out / "b.mkv").write_bytes(b"damaged")
    changed = rows.replace("c.mkv,mean", "c.mkv,max") + "ir,vis,d/,mean\n"
    times = {name: (out / name).stat().st_mtime_ns for name in first}
    ran = batch(place, changed, "--json")
    assert ran.exit_code == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["finished"], document["skipped"], document["failed"]) == (3, 1, 0)
    rows_of = {clip["output"]: clip for clip in document["clips"]}
    assert rows_of["a.mkv"]["status"] == "skipped"
    assert "not as the batch had written it" in rows_of["b.mkv"]["warnings"] and not rows_of["c.mkv"]["warnings"]
    assert (out / "a.mkv").stat().st_mtime_ns == times["a.mkv"]
    again = hashes(out)
    assert again["b.mkv"] == first["b.mkv"] and again["c.mkv"] != first["c.mkv"]


@pytest.mark.slow
def test_what_another_program_has_written_is_kept(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "a.mkv").write_text("not ours")
    rows = "infrared.mkv,visible.mkv,a.mkv,mean\n"
    ran = batch(place, rows)
    assert ran.exit_code == 5 and "already exists" in ran.stderr
    assert (place / "out" / "a.mkv").read_text() == "not ours"
    assert batch(place, rows, "--overwrite").exit_code == 0
    assert (place / "out" / "a.mkv").stat().st_size > 1000


def slow_rows(count: int) -> str:
    """Equal clips that take a while each."""
    url = "synthetic://street?size=320x240&fps=25&duration=2s&pace=fast"
    return "".join(f"{url},{url},{index:02}.mkv,mean\n" for index in range(count))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A batch of six slow clips with two workers, of which one at least is finished."""
    words = command(tmp_path, slow_rows(6), "--workers", "2")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: bool(list((tmp_path / "out").glob("*.mkv"))), timeout_s=200)
            yield process
        finally:
            process.kill()


def made(out: Path) -> dict[str, int]:
    """When each finished output was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.mkv")}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_keeps_what_is_finished(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    running.send_signal(number)
    _, errors = running.communicate(timeout=30)  # to the end of the pipe: no worker, which has it as well, is left
    assert running.returncode == 130 and "interrupted; finished clips are kept" in errors
    out = tmp_path / "out"
    before = made(out)
    assert 0 < len(before) < 6 and not (out / ".batch" / "unfinished").exists()
    assert {row["status"] for row in report(out).values()} == {"finished", "not started"}


@pytest.mark.slow
def test_a_killed_batch_and_a_killed_worker_cost_only_the_clips_they_had(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running.kill()
    running.communicate(timeout=20)  # to the end of the pipe: its workers, which have it as well, end with it
    before = made(out)
    with subprocess.Popen(
        command(tmp_path, slow_rows(6), "--workers", "2"), stderr=subprocess.PIPE, text=True
    ) as again:
        wait_for(lambda: len(made(out)) > len(before), timeout_s=200)
        workers = [one for one in psutil.Process(again.pid).children() if "resource_tracker" not in str(one.cmdline())]
        workers[0].kill()
        _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    assert {name: time_ns for name, time_ns in made(out).items() if name in before} == before, "nothing is done twice"
    lines = report(out)
    assert len(lines) == 6 and {row["status"] for row in lines.values()} == {"finished", "skipped"}
    assert "2" in {row["attempts"] for row in lines.values()}, "the clip of the killed worker was tried again"
    assert len(set(hashes(out).values())) == 1, "the clips are equal, so their files are"


ENDLESS = "synthetic://street?size=96x64&fps=25&duration=600s&pace=real"


@pytest.mark.slow
def test_a_clip_whose_worker_dies_each_time_is_set_aside_and_the_others_are_fused(place: Path) -> None:
    rows = f"{ENDLESS},{ENDLESS},a.mkv,mean\ninfrared.mkv,visible.mkv,b.mkv,mean\n"
    words = command(place, rows, "--workers", "1", "--retries", "1")
    unfinished = place / "out" / ".batch" / "unfinished"
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            for attempt in (1, 2):
                wait_for(lambda: len(list(unfinished.glob("*/a.partial.mkv"))) == attempt, timeout_s=100)  # noqa: B023
                worker_of(process.pid).kill()
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 1, errors
    lines = report(place / "out")
    assert (lines["a.mkv"]["attempts"], lines["b.mkv"]["status"]) == ("2", "finished")
    assert "the worker died (SIGKILL)" in lines["a.mkv"]["error"] and not unfinished.exists()


def test_a_clip_that_takes_too_long_is_ended(place: Path) -> None:
    ran = batch(place, f"{ENDLESS},{ENDLESS},a.mkv,mean\n", "--retries", "0", "--timeout", "1s")
    assert ran.exit_code == 1, ran.output
    assert "was not finished within 1 s" in report(place / "out")["a.mkv"]["error"]


@pytest.mark.slow
def test_two_batches_do_not_share_a_folder(running: subprocess.Popen[str], tmp_path: Path) -> None:
    error = batch(tmp_path, slow_rows(6)).exception
    assert isinstance(error, SinkError) and "another batch is writing to this folder" in str(error)
    assert running.poll() is None


@pytest.mark.slow
def test_a_full_disk_stops_the_batch_and_space_lets_it_continue(place: Path) -> None:
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, timeout=20)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        rows = "".join(f"infrared.mkv,visible.mkv,{name}.mkv,mean\n" for name in "abc")
        assert batch(place, rows.splitlines()[0], out=small).exit_code == 0
        before = hashes(small)
        (small / "filler").write_bytes(bytes(shutil.disk_usage(small).free))
        ran = batch(place, rows, out=small)
        assert ran.exit_code == 5 and "No space left" in ran.stderr, ran.stderr
        assert "run the same command again" in ran.stderr and "unfinished" not in ran.stderr, "it is removed"
        (small / "filler").unlink()
        assert hashes(small) == before
        assert batch(place, rows, out=small).exit_code == 0
        assert len(set(hashes(small).values())) == 1
    finally:
        subprocess.run(["umount", small], timeout=20, check=True)


def test_a_folder_that_cannot_be_written_and_wrong_options_are_refused(place: Path) -> None:
    rows = "infrared.mkv,visible.mkv,a.mkv,mean\n"
    for options, code, says in (
        (["--out", "/proc/x"], 5, "/proc"),
        (["--name", "roof"], 2, "add --rig"),
        (["--visible", "{stem}"], 2, "is for a pattern"),
    ):
        error = batch(place, rows, *options).exception
        assert isinstance(error, FusepipeError) and error.exit_code == code and says in str(error)


def test_a_secret_in_a_url_is_not_shown(place: Path) -> None:
    words = command(place, "rtsp://admin:geheim99@10.0.0.8/1,visible.mkv,a.mkv,mean\n")
    ran = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 2 and "geheim99" not in ran.stderr + ran.stdout and "***" in ran.stderr
    assert ran.stderr.count("\n") == 1 and not os.path.lexists(place / "out")


def test_workers_have_cores_of_their_own(place: Path) -> None:
    """With one core each, two workers do not compete; the affinity of a worker is what engines see."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    with subprocess.Popen(command(place, slow_rows(16), "--workers", "2"), stderr=subprocess.DEVNULL) as process:
        try:

            def cores() -> list[tuple[int, ...]]:
                return [
                    tuple(one.cpu_affinity()) for one in psutil.Process(process.pid).children() if one.num_threads() > 8
                ]

            wait_for(lambda: len(cores()) == 2, timeout_s=200)
            first, second = cores()
            assert first != second and len(first) == len(second) == len(os.sched_getaffinity(0)) // 2
        finally:
            process.kill()
