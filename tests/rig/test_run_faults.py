"""What happens to a run, as a whole process, when things go wrong around it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.waiting import wait_for

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.sinks.files.partial_file import PartialFile

RIG = """
schema: 1
rigs:
  r:
    infrared: {{url: "synthetic://street?size=160x120&duration={duration}&pace={pace}"}}
    visible: {{url: "synthetic://street?size=320x240&duration={duration}&pace={pace}"}}
    registration: {{calibration: "synthetic://street"}}
    fusion: {{model: mean}}
    sinks: [{sinks}]
"""


def rig(tmp_path, sinks="{file: a.mkv}", duration="2s", pace="fast"):
    path = tmp_path / "rigs.yaml"
    path.write_text(RIG.format(sinks=sinks, duration=duration, pace=pace))
    return path


STARTED = []


@pytest.fixture(autouse=True)
def no_process_left():
    """A test that fails must not leave a run of a thousand seconds behind."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=20)
    STARTED.clear()


def start(*args, **options):
    process = subprocess.Popen(
        [sys.executable, "-m", "fusepipe", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background makes them ignore SIGINT, which children inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )
    STARTED.append(process)
    return process


def run(*args, timeout=60, **options):
    process = start(*args, **options)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def frames(path):
    with av.open(str(path)) as container:
        return [round(float(f.pts * f.time_base), 3) for f in container.decode(video=0)]


def recorded_s(path):
    """Seconds that a player sees of a file that is still being written, or ends in the middle of a packet."""
    seconds = 0.0
    try:
        with av.open(str(path)) as container:
            for decoded in container.decode(video=0):
                seconds = float(decoded.pts * decoded.time_base)
    except (OSError, av.FFmpegError):
        pass  # what was decoded before counts
    return seconds


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finalises_its_files(tmp_path, number):
    process = start("run", "--rig", rig(tmp_path, "{file: a.mkv}, {file: b.mp4}", "1000s", "real"), "--json")
    wait_for(lambda: recorded_s(tmp_path / "a.partial.mkv") > 1, 100)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    ends_well = number == signal.SIGTERM  # which is how a service is stopped
    assert process.returncode == (0 if ends_well else 130), err
    record = json.loads(out)
    assert record["ok"] is ends_well and record["rigs"][0]["interrupted"] is True
    for sink in record["rigs"][0]["written"]:
        assert len(frames(sink["path"])) == sink["frames"] > 20
    assert sorted(p.name for p in tmp_path.glob("*.m*")) == ["a.mkv", "b.mp4"]


@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9, 1.2, 1.6, 2.0])
def test_an_interrupt_at_any_moment_of_the_start_ends_the_run(tmp_path, after_s):
    """While imports run, the scene is painted, the engine compiles: never swallowed, nothing half-written."""
    big = rig(tmp_path, "{file: a.mkv}", "1000s").read_text().replace("320x240", "1280x720")
    (tmp_path / "rigs.yaml").write_text(big.replace("model: mean", "model: stream"))
    process = start("run", "--rig", tmp_path / "rigs.yaml")
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT), err  # -SIGINT: before Python had come to our code
    assert not list(tmp_path.glob("*.partial.*"))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_killed_run_leaves_a_file_that_plays_up_to_the_last_second(tmp_path, suffix):
    """SIGKILL: nothing can be cleaned up, so what counts is what is on the disk already."""
    process = start("run", "--rig", rig(tmp_path, f"{{file: a.{suffix}}}", "1000s", "real"))
    partial = tmp_path / f"a.partial.{suffix}"
    wait_for(lambda: partial.exists() and partial.stat().st_size > 0, 100)
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() - begun > 4)
    lived_s = time.monotonic() - begun
    process.kill()
    process.communicate(timeout=20)
    times = frames(partial)
    assert times[0] == 0
    # one second of flush interval, and a second for a loaded machine to have taken the frames in
    assert times[-1] >= lived_s - 2, f"plays {times[-1]} s of {lived_s:.1f} s"
    steps = np.diff(times)
    assert steps.max() < 1.0, "no hole in what was recorded"


def test_after_a_kill_the_next_run_does_not_overwrite_the_rest(tmp_path):
    (tmp_path / "a.partial.mkv").write_bytes(b"rest")
    code, _, err = run("run", "--rig", rig(tmp_path))
    assert code == 5 and "left over from an interrupted run" in err
    assert (tmp_path / "a.partial.mkv").read_bytes() == b"rest"
    code, _, err = run("run", "--rig", rig(tmp_path), "--overwrite")
    assert code == 0 and len(frames(tmp_path / "a.mkv")) == 50


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 2 MiB; needs the right to mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, timeout=20, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], timeout=20, check=True)


@pytest.mark.parametrize(
    "sinks", ["{file: tiny/a.mkv, quality: 1}", "{file: tiny/a.mp4, quality: 1}", "{images: tiny/i}"]
)
def test_no_space_left_on_the_device(tmp_path, tiny_disk, sinks):
    """One bad disk ends the run with one line; the file on the good disk is finalised."""
    code, _, err = run("run", "--rig", rig(tmp_path, f"{{file: good.mkv}}, {sinks}", "60s"))
    assert code == 5
    assert "No space left on device" in err and "Traceback" not in err
    assert err.count("\n") == 1, err
    assert len(frames(tmp_path / "good.mkv")) > 1
    if "images" in sinks:
        images = list((tiny_disk / "i").iterdir())
        assert images and all(p.suffix == ".png" and cv2.imread(str(p)) is not None for p in images)
    else:
        (partial,) = tiny_disk.iterdir()
        assert ".partial." in partial.name and str(partial) in err
        assert recorded_s(partial) > 2, "what was good plays"


def test_full_or_closed_standard_output_gives_no_traceback(tmp_path):
    for redirect in ("> /dev/full", ">&-", "2>&-", "| true"):
        command = f"'{sys.executable}' -m fusepipe run --rig '{rig(tmp_path)}' --max-pairs 3 --overwrite {redirect}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, (redirect, done.stderr)
        assert len(frames(tmp_path / "a.mkv")) == 3


def test_a_sink_path_that_is_a_folder(tmp_path):
    (tmp_path / "a.mkv").mkdir()
    code, _, err = run("run", "--rig", rig(tmp_path))
    assert code == 5 and "a.mkv: is a folder" in err


def test_a_read_only_folder_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(SinkError, match="no permission to write"):
        PartialFile(tmp_path / "a.mkv", overwrite=False).check()


def test_the_second_interrupt_does_not_wait(tmp_path):
    process = start("run", "--rig", rig(tmp_path, "{file: a.mkv}", "1000s", "real"))
    wait_for(lambda: (tmp_path / "a.partial.mkv").exists(), 100)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def corrupt_folder(folder: Path, count=8):
    for band in ("ir", "vis"):
        (folder / band).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (40, 50), dtype=np.uint8)
            cv2.imwrite(str(folder / band / f"{i}.png"), pixels)
    whole = (folder / "vis" / "3.png").read_bytes()
    (folder / "vis" / "3.png").write_bytes(whole[:200])


def test_a_truncated_image_is_skipped_counted_and_reported(tmp_path):
    corrupt_folder(tmp_path)
    code, out, err = run("fuse", tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out", "--model", "mean")
    assert code == 0, err
    assert "skipped: 1 unreadable visible" in out and "3: truncated PNG" in out
    assert sorted(p.stem for p in (tmp_path / "out").iterdir()) == ["0", "1", "2", "4", "5", "6", "7"]


def test_a_corrupt_packet_in_the_middle_is_skipped_counted_and_reported(tmp_path):
    code, _, err = run("run", "--rig", rig(tmp_path))
    assert code == 0, err
    path = tmp_path / "a.mkv"
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    position, size = packets[25]
    for offset in range(size // 4, size // 2):
        data[position + offset] ^= 0xA5
    path.write_bytes(data)
    code, out, err = run("fuse", path, path, "-o", tmp_path / "again.mkv", "--model", "mean", "--json")
    assert code == 0, err
    (record,) = json.loads(out)["rigs"]
    assert record["skipped"]["unreadable infrared"] >= 1 and record["skipped"]["unreadable visible"] >= 1
    assert record["written"][0]["frames"] >= 46
    assert frames(tmp_path / "again.mkv")[-1] == pytest.approx(49 / 25, abs=0.002)


def test_one_stream_shorter(tmp_path):
    text = rig(tmp_path, duration="2s").read_text()
    text = text.replace("    fusion:", "    sync: {max_hold: 1s}\n    fusion:")
    short = text.replace("size=160x120&duration=2s", "size=160x120&duration=500ms")
    (tmp_path / "rigs.yaml").write_text(short)
    code, out, err = run("run", "--rig", tmp_path / "rigs.yaml", "--json")
    assert code == 0, err
    pairs = json.loads(out)["rigs"][0]["pairs"]
    # 12 or 13 pairs, then the last infrared frame is held for a second, then visible alone
    assert pairs["fused"] in (12, 13) and 24 <= pairs["held"] <= 26 and sum(pairs.values()) == 50
    other = text.replace("size=320x240&duration=2s", "size=320x240&duration=500ms")
    (tmp_path / "rigs.yaml").write_text(other)
    code, out, err = run("run", "--rig", tmp_path / "rigs.yaml", "--json", "--overwrite")
    record = json.loads(out)["rigs"][0]
    assert record["skipped"]["infrared continues after visible ended"] == 1


@pytest.mark.parametrize("size", [(4, 3), (8000, 40), (5, 1)])
def test_very_narrow_and_very_wide_images(tmp_path, size):
    for band in ("ir", "vis"):
        (tmp_path / band).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / band / "a.png"), pixels)
    code, _, err = run("fuse", tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    assert code == 0, err
    assert cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED).shape == (size[1], size[0])
    code, _, err = run("fuse", tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out.mkv", "--model", "pyramid")
    assert code == 0, err
    assert len(frames(tmp_path / "out.mkv")) == 1
