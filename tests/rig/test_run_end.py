"""A run ends within two seconds, whatever ends it and whatever the other camera does."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from helpers.ports import free_port
from helpers.waiting import wait_for

RIG = """
schema: 1
rigs:
  r:
    infrared: {{url: "{infrared}"}}
    visible: {{url: "{visible}"}}
    fusion: {{model: mean}}
    sinks: [{{images: out}}{sinks}]
"""
LIVE_END_S = 2.0
LOAD_S = 2.0  # for a machine that runs other tests meanwhile


@contextmanager
def hanging(first_answer=b""):
    """A camera that accepts connections, sends ``first_answer`` and then nothing, until the end of the test."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    over = threading.Event()
    held = []

    def serve():
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            held.append(connection)
            if first_answer:
                connection.recv(4096)
                connection.sendall(first_answer)

    thread = threading.Thread(target=serve, name="hanging-camera")
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        thread.join(10)
        for connection in held:
            connection.close()
        server.close()


@contextmanager
def absent():
    yield f"rtsp://127.0.0.1:{free_port()}/ir"


@contextmanager
def hanging_rtsp():
    with hanging() as port:
        yield f"rtsp://127.0.0.1:{port}/ir"


@contextmanager
def dead_mjpeg():
    """Sends one image, then nothing: a camera that dies during the run without closing the connection."""
    import cv2
    import numpy as np

    jpeg = cv2.imencode(".jpg", np.full((120, 160), 90, np.uint8))[1].tobytes()
    part = b"--B\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=B\r\n\r\n"
    with hanging(head + part * 3) as port:
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def silent_udp():
    yield f"udp://127.0.0.1:{free_port()}"


OTHERS = {"absent": absent, "hanging": hanging_rtsp, "dead": dead_mjpeg, "silent": silent_udp}
STREET = "synthetic://street?band=visible&pace=real&size=160x120&duration={}"


def start(tmp_path, other, *options, duration="1h", sinks=""):
    path = tmp_path / "rigs.yaml"
    path.write_text(RIG.format(infrared=other, visible=STREET.format(duration), sinks=sinks))
    return subprocess.Popen(
        [sys.executable, "-m", "fusepipe", "run", "--rig", str(path), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def frames_written(tmp_path):
    return len(list((tmp_path / "out").glob("*.png")))


def wait_until_no_more_is_written(tmp_path, process, at_least=5):
    """The time at which the last image was written."""
    wait_for(lambda: frames_written(tmp_path) >= at_least or process.poll() is not None, 60)
    count, since = frames_written(tmp_path), time.monotonic()
    while process.poll() is None and time.monotonic() - since < 0.6:
        time.sleep(0.02)
        if frames_written(tmp_path) != count:
            count, since = frames_written(tmp_path), time.monotonic()
    return since


def ended(tmp_path, other, end):
    """What is wrong with the end of a run beside this camera; ``None`` if nothing is."""
    tmp_path.mkdir()
    options = {"max-pairs": ["--max-pairs", "20"], "duration": ["--duration", "1s"]}.get(end, [])
    duration = "1s" if end == "end of one source" else "1h"
    with OTHERS[other]() as url:
        process = start(tmp_path, url, *options, duration=duration)
        try:
            if end == "signal":
                wait_for(lambda: frames_written(tmp_path) >= 5, 60)
                process.send_signal(signal.SIGINT)
                over = time.monotonic()
            elif end == "error":
                wait_for(lambda: frames_written(tmp_path) >= 5, 60)
                (tmp_path / "out").rename(tmp_path / "gone")  # the sink cannot write any more
                (tmp_path / "out").write_text("")
                over = time.monotonic()
            else:
                over = wait_until_no_more_is_written(tmp_path, process)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate(timeout=20)
    took_s = time.monotonic() - over
    # nothing was fused, which is an error
    code = {"signal": 130, "error": 5}.get(end, 3)
    fine = took_s < LIVE_END_S + LOAD_S and process.returncode == code and json.loads(out)["rigs"][0]["seconds"] > 0
    return None if fine else f"{other}: {took_s:.1f} s, exit code {process.returncode}: {err}"


@pytest.mark.parametrize("end", ["max-pairs", "duration", "end of one source", "signal", "error"])
def test_a_run_ends_within_two_seconds_whatever_the_other_camera_does(tmp_path, end):
    """Beside all of these cameras at the same time, a run for each: they wait most of the time."""
    with ThreadPoolExecutor(len(OTHERS), thread_name_prefix="run") as pool:
        runs = [pool.submit(ended, tmp_path / other, other, end) for other in OTHERS]
        assert [problem for run in runs if (problem := run.result())] == []


def has_opened(pid, url):
    """Whether a process has a socket of the port in a URL: connected to it, or bound to it for UDP."""
    port = int(url.split(":")[2].partition("/")[0])
    sockets = psutil.Process(pid).net_connections()
    return any(port in (one.laddr and one.laddr.port, one.raddr and one.raddr.port) for one in sockets)


@pytest.mark.parametrize("other", ["hanging", "silent"])
def test_a_signal_ends_a_start_that_waits_for_a_camera(tmp_path, other):
    with OTHERS[other]() as url:
        process = start(tmp_path, url)
        try:
            wait_for(lambda: has_opened(process.pid, url), 100)
            process.send_signal(signal.SIGINT)
            over = time.monotonic()
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate(timeout=20)
    assert time.monotonic() - over < LIVE_END_S, err
    assert process.returncode == 130, err
