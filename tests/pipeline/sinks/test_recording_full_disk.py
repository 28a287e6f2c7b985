"""Recordings on a full disk: room is made where the rules allow it; otherwise the recording fails cleanly."""

import shutil
import subprocess
import time

import av
import pytest
from helpers.recording import S, fused, lines, packets, recorder, videos

from fusepipe.core.errors import DiskFullError


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB; skips without the permission to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, timeout=20, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], timeout=20, check=True)


def test_a_full_disk_deletes_the_oldest_segments_if_the_rules_allow_it(small_disk):
    """More is recorded than the disk holds: the newest frames are kept, without a gap."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=True, segment_ns=S, max_total_bytes=10**9)
    start_ns = time.monotonic_ns()
    count = 600
    for index in range(count):
        sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
    report = sink.close()
    assert report.frames == count and report.bytes > 5_000_000 and "old segments deleted" in report.note
    assert not list(small_disk.glob("*.partial.*")), "space was freed before the disk was full"
    pairs = [line["pair"] for file in small_disk.glob("*.jsonl") for line in lines(file)]
    assert sorted(pairs) == list(range(count - len(pairs), count)) and len(pairs) > 75
    assert sum(len(packets(p)) for p in videos(small_disk)) == len(pairs)


@pytest.mark.parametrize("filled_at", [251, 262, 276, 299])
def test_a_disk_filled_by_another_program_costs_at_most_a_second(small_disk, filled_at):
    """Filled within a segment, which may be truncated there; the recording continues in a new one."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=True, segment_ns=4 * S, max_age_ns=3600 * S)
    start_ns = time.monotonic_ns()
    for index in range(340):
        if index == filled_at:
            (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
    sink.close()
    pairs = sorted(line["pair"] for file in small_disk.glob("*.jsonl") for line in lines(file))
    assert pairs == list(range(pairs[0], 340)), "every frame is in one of the remaining segments"
    played = 0
    for path in videos(small_disk):
        with av.open(str(path)) as container:
            played += sum(packet.size > 0 for packet in container.demux(video=0))
    assert len(pairs) - 26 <= played <= len(pairs) + 1  # the frame at the truncation may be in both


@pytest.mark.parametrize(("live", "bounds"), [(True, {}), (False, {"max_total_bytes": 10**9})])
def test_a_full_disk_fails_if_nothing_may_be_deleted(small_disk, live, bounds):
    """Live without retention rules, and conversions, which can be repeated, in any case."""
    sink = recorder(small_disk / "%H%M%S.mkv", live=live, segment_ns=S, **bounds)
    start_ns = time.monotonic_ns()
    index = 0

    def write_on():
        nonlocal index
        while index < 2000:
            sink.write(fused(index, size=(160, 120), start_ns=start_ns, noise=True))
            index += 1

    with pytest.raises(DiskFullError, match=r"No space left on device|the disk is full"):
        write_on()
    sink.close()
    for beside in small_disk.glob("*.jsonl"):
        assert lines(beside), "every line is complete"
    before = sorted(small_disk.iterdir())
    again = recorder(small_disk / "%H%M%S.mkv", live=live, segment_ns=S, **bounds)
    with pytest.raises(DiskFullError, match=r"the disk is full \(0\.\d MB free\)"):
        again.write(fused(0, start_ns=start_ns))
    again.close()
    assert sorted(small_disk.iterdir()) == before, "no file is created on a full disk"
