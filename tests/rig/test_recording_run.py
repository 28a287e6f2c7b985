"""Recording as a whole process: killed in the middle, on a disk that fills up, and next to outputs that continue."""

import json
import signal
import subprocess
import time
from itertools import pairwise

import av
import pytest
from helpers.rig_process import RigProcesses, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(240)]  # rigs in real time

RIG = """
schema: 1
rigs:
  r:
    infrared: {{url: "synthetic://street?size=160x120&duration=1000s&pace=real"}}
    visible: {{url: "synthetic://street?size=320x240&duration=1000s&pace=real"}}
    registration: {{calibration: "synthetic://street"}}
    fusion: {{model: mean}}
    sinks: [{sinks}]
"""


@pytest.fixture
def start(tmp_path):
    """Starts a run of these sinks; what it says is in ``log``, its record in ``out``."""
    processes = RigProcesses(tmp_path)
    yield lambda sinks: processes.start(RIG.format(sinks=sinks), "--json")
    processes.close()


def times(path):
    """Seconds of each frame that decodes."""
    found = []
    try:
        with av.open(str(path)) as container:
            found.extend(round(float(p.pts * p.time_base), 3) for p in container.decode(video=0))
    except (OSError, av.FFmpegError):
        pass  # what was decoded before counts: the file may end in the middle of a packet
    return found


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_killed_recording_has_whole_segments_and_lines_and_the_next_run_continues_next_to_it(start, tmp_path, suffix):
    sinks = f'{{file: "rec/%Y%m%d-%H%M%S.{suffix}", segment: 2s}}'
    rec = tmp_path / "rec"
    process = start(sinks)
    wait_for(lambda: len(list(rec.glob(f"*.{suffix}"))) >= 4, tmp_path)  # three whole ones and an open one

    def half_way():
        return any(len(times(p)) > 25 for p in rec.glob(f"*.partial.{suffix}"))

    def killed_half_way():
        if half_way():
            process.send_signal(signal.SIGSTOP)  # it may have begun the next one meanwhile
            if half_way():
                process.kill()
                return True
            process.send_signal(signal.SIGCONT)
        return False

    wait_for(killed_half_way, tmp_path)
    process.wait(timeout=20)
    (open_one,) = rec.glob(f"*.partial.{suffix}")
    beside = rec / open_one.name.replace(f".{suffix}", ".jsonl")
    records, whole = [], []
    for video in sorted(rec.glob(f"*.{suffix}")):
        partial = video == open_one
        lines = (beside if partial else video.with_suffix(".jsonl")).read_bytes()
        assert lines.endswith(b"\n")
        found = [json.loads(line) for line in lines.splitlines()]
        played = times(video)
        assert played[0] == 0 and len(played) >= 26
        if not partial:
            assert len(found) == len(played)
            whole.append((found[0]["capture_s"], played[-1]))
        assert 0 <= len(found) - len(played) <= 45, "a second of the open one may not have reached the file"
        assert [line["pts_s"] for line in found][: len(played)] == pytest.approx(played, abs=0.002)
        records += found
    at = [line["capture_s"] for line in records]
    assert all(0 < b - a < 1 for a, b in pairwise(at)), "in order, and no hole between the segments"
    assert all(a["pair"] < b["pair"] for a, b in pairwise(records))
    segments = [(last_s, round(after - begun, 3)) for (begun, last_s), (after, _) in pairwise(whole)]
    assert segments and all(last_s <= 2 <= lasts_s for last_s, lasts_s in segments), "of two seconds, by capture time"
    before = sorted(rec.iterdir())
    again = start(sinks)
    wait_for(lambda: len(list(rec.iterdir())) > len(before), tmp_path)
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=30) == 130
    assert set(before) <= set(rec.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB; needs the right to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, timeout=20, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], timeout=20, check=True)


def test_a_full_disk_stops_one_sink_with_one_line_and_room_brings_it_back(start, tmp_path, small_disk):
    process = start('{file: good.mkv}, {file: "small/%H%M%S.mkv", quality: 1, segment: 2s}')

    def log():
        return (tmp_path / "log").read_text()

    wait_for(lambda: "retrying in" in log(), tmp_path)
    failed = time.monotonic()
    wait_for(lambda: time.monotonic() - failed > 3, tmp_path)
    said = [line for line in log().splitlines() if "small/" in line]
    assert len(said) == 1 and ("No space left on device" in said[0] or "the disk is full" in said[0]), said
    for file in small_disk.iterdir():
        if ".partial." not in file.name:
            file.unlink()
    wait_for(lambda: "recovered after" in log(), tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    (record,) = json.loads((tmp_path / "out").read_text())["rigs"]
    good, small = record["sinks"]
    assert (good["failures"], good["up"]) == (0, True)
    assert small["failures"] >= 1 and small["restarts"] >= 1 and small["missed"] > 50
    played = times(tmp_path / "good.mkv")
    assert len(played) == record["written"][0]["frames"] > 200
    assert max(b - a for a, b in pairwise(played)) < 1.5, "the other output was not interrupted"


def test_a_full_disk_costs_the_oldest_segments_where_the_rig_says_so(start, tmp_path, small_disk):
    process = start('{file: "small/%H%M%S.mkv", quality: 1, segment: 1s, max_age: 7d}')
    wait_for(lambda: (tmp_path / "log").read_text().count("deleting the oldest segment") >= 3, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    (record,) = json.loads((tmp_path / "out").read_text())["rigs"]
    assert record["sinks"][0]["failures"] == 0 and "old segment" in record["written"][0]["note"]
    assert len(list(small_disk.glob("*.mkv"))) == len(list(small_disk.glob("*.jsonl"))) >= 1
