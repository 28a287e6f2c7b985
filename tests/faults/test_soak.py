"""Soak test of a live rig: one minute, half an hour with ``-m long``, and its evaluation."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from faults import flatness
from peers.cameras import MISSING, gst_rtsp_server

from fusepipe.workflows.bench.soak import held, held_at_rest

TESTS = Path(__file__).parents[1]


def soak(*words, timeout=30):
    command = [sys.executable, "-m", "faults.soak", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=TESTS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_with_faults_and_cut_connections_is_flat():
    if not gst_rtsp_server():
        pytest.skip(MISSING)
    done = soak("--duration", "60s", "--reconnects", "30", "--seed", "ci", timeout=280)
    sys.stdout.write(done.stdout)  # shown where it fails
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" flat\n") == 7, "memory, threads, descriptors and latency, and three of them again"
    assert "fused again after" in done.stdout, "there were faults"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_half_an_hour_with_faults_and_500_cut_connections_is_flat():
    if not gst_rtsp_server():
        pytest.skip(MISSING)
    done = soak("--duration", "30min", "--reconnects", "500", timeout=3500)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rising_line_fails_the_flatness_check():
    """A line that rises by more than its bound fails."""
    still = [(float(x), 100.0 + x % 3) for x in range(60)]
    rising = [(float(x), 100.0 + x) for x in range(60)]
    assert flatness.judge({"memory, MiB": still}, flatness.BOUNDS, "hour", 3600.0)
    assert not flatness.judge({"memory, MiB": still, "threads": rising}, flatness.BOUNDS, "hour", 3600.0)
    assert not flatness.judge({"memory, MiB": still[:5]}, flatness.BOUNDS, "hour", 3600.0), "too few to say"
    assert flatness.rise(rising) == flatness.rise(rising, robust=True) == pytest.approx(39)
    busy = [(x, y + (6000 if 30 < x < 40 else 0)) for x, y in still]
    assert abs(flatness.rise(busy, robust=True)) < 3 < abs(flatness.rise(busy)), "moments without a processor"


def test_an_invalid_duration_is_reported_in_one_line():
    done = soak("--duration", "soon")
    assert done.returncode == 2 and "soon" in done.stderr and "Traceback" not in done.stderr


def test_one_thread_or_descriptor_that_stays_fails_the_run(capsys):
    before, there = held(), threading.enumerate()
    assert flatness.nothing_left(before, held_at_rest(before), there)
    end = threading.Event()
    left = threading.Thread(target=end.wait, name="roof/left-behind")
    left.start()
    try:
        assert not flatness.nothing_left(before, held_at_rest(before), there)
    finally:
        end.set()
        left.join()
    said = capsys.readouterr().out
    assert "roof/left-behind" in said and "more threads" in said
    with Path(__file__).open():
        assert not flatness.nothing_left(before, held_at_rest(before), there)
    assert "more descriptors" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_half_an_hour_of_three_rigs_one_of_them_broken_is_flat():
    if not gst_rtsp_server():
        pytest.skip(MISSING)
    command = [sys.executable, "-m", "faults.soak_rigs", "--duration", "30min"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3500, cwd=TESTS)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
