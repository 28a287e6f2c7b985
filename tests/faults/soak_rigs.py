"""Soak test of ``fusepipe run`` with three rigs, one of them broken: a process of its own, seen only from outside.

Six RTSP cameras (gst-rtsp-server, 320x240 at 15 frames per second); the rigs share a preview page and an RTSP port, and
each records in segments. The visible camera of ``roof`` has another password than the rig file. The cameras of the
other rigs hang or are killed at random. Memory, threads and descriptors are sampled once a second, and what the page
says; at the end the rig file gets the right password and is reloaded, and the process is stopped by SIGTERM. Exit code
1 where anything grows, the page says something that is not so, or the process does not end with 0.

benchmarks/soak_rigs --duration 30min
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from faults.flatness import BOUNDS, SHORT_BOUNDS, SHORT_S, Series, judge, note, say
from faults.soak import seconds
from helpers.ports import free_port
from peers.cameras import MISSING, RtspCamera, gst_rtsp_server

from fusepipe.workflows.bench.soak import held

RIGS = ("roof", "yard", "gate")
BANDS = ("infrared", "visible")
SIZE = "320x240"
CALM_S = (10.0, 25.0)  # between two faults
HANG_S = 4.0
START_S = 60.0
RECOVERY_S = 45.0
FIX_S = 60.0
RIGHT, WRONG = "ann:s3cret-s3cret", "ann:another-one"


class Soak:
    """The cameras, the process, and what was seen; ``problems`` are what must not be."""

    def __init__(self, folder: Path, stack: ExitStack, life_s: float) -> None:
        self.problems: list[str] = []
        self.series: Series = {}
        self._folder, self._page, self._rtsp = folder, free_port(), free_port()
        self._cameras = {}
        for rig in RIGS:
            for band in BANDS:
                user = RIGHT if (rig, band) == ("roof", "visible") else ""
                camera = RtspCamera(size=SIZE, fps=15, user=user, life_s=round(life_s))
                stack.callback(camera.kill)
                self._cameras[rig, band] = camera
        self.write(WRONG)
        log, out = (stack.enter_context((folder / name).open("w")) for name in ("log", "out"))
        command = [sys.executable, "-m", "fusepipe", "run", "--rig", str(folder / "rigs.yaml"), "--json"]
        self.process = subprocess.Popen(command, stdout=out, stderr=log)
        stack.callback(self._kill)
        self.begun_s = time.monotonic()

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)

    def write(self, password: str) -> None:
        """The rig file, with this user and password for the camera that asks for one."""
        text = "schema: 1\nrigs:\n"
        for rig in RIGS:
            text += f"  {rig}:\n"
            for band in BANDS:
                camera = self._cameras[rig, band]
                url = camera.url.replace("://", f"://{password}@") if camera.user else camera.url
                text += f'    {band}: {{url: "{url}", transport: tcp, stall_timeout: 1s, open_timeout: 2s}}\n'
            text += f"""    fusion: {{model: mean}}
    sync: {{tolerance: 40ms, max_wait: 300ms}}
    sinks:
      - {{file: "rec/{rig}/%Y-%m-%d_%H-%M-%S.mkv", segment: 1min, max_total: 20MB}}
      - {{rtsp: "rtsp://127.0.0.1:{self._rtsp}/{rig}"}}
      - {{preview: "http://127.0.0.1:{self._page}"}}
"""
        (self._folder / "rigs.yaml").write_text(text)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._page}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def rigs(self) -> dict[str, Any]:
        status, text = self.get("/api/rigs")
        rigs: dict[str, Any] = json.loads(text)["rigs"] if status == 200 else {}
        return rigs

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> float:
        """The seconds until ``condition()``; a problem after ``timeout_s``."""
        begun_s = time.monotonic()
        while not condition():
            if time.monotonic() - begun_s > timeout_s or self.process.poll() is not None:
                self.problems.append(f"{what}: not within {timeout_s:.0f} s")
                break
            time.sleep(0.1)
        return time.monotonic() - begun_s

    def fused(self, *rigs: str) -> bool:
        records = self.rigs()
        return all(records.get(rig, {}).get("state") == "fused" and records[rig]["ready"] for rig in rigs)

    def sample(self) -> None:
        """Notes what the process holds, and that the page says what is so."""
        note(self.series, time.monotonic() - self.begun_s, held(Path(f"/proc/{self.process.pid}")))
        records = self.rigs()
        status = records.get("roof", {}).get("status", {})
        if list(records) != list(RIGS) or status.get("state") != "failed":
            self.problems.append(f"the page has {list(records)}, roof is {status.get('state')}")
        if "authentication failed" not in "".join(status.get("reasons", ())):
            self.problems.append(f"the page does not say why roof has failed: {status}")
        if (ready := self.get("/readyz")[0]) != 503:
            self.problems.append(f"/readyz is {ready} although roof has failed")
        if 'rig="roof"' not in self.get("/metrics")[1]:
            self.problems.append("roof is not in /metrics")

    def disturb(self, rng: random.Random) -> str:
        """A fault of a camera of a rig that runs, which ends after some seconds."""
        rig, band, kill = rng.choice(RIGS[1:]), rng.choice(BANDS), rng.random() < 0.5
        camera = self._cameras[rig, band]
        if kill:
            camera.kill()
        else:
            camera.send(signal.SIGSTOP)
        time.sleep(HANG_S)
        if kill:
            camera.start()
        else:
            camera.send(signal.SIGCONT)
        return f"{rig}: {band} {'dies' if kill else 'hangs'}"


def run(soak: Soak, duration_s: float, rng: random.Random) -> Counter[str]:
    """Faults and samples for ``duration_s``."""
    injected, slowest = Counter[str](), (0.0, "no fault")
    soak.wait(lambda: soak.fused("yard", "gate"), START_S, "the first frames of yard and gate")
    say(f"yard and gate fused after {time.monotonic() - soak.begun_s:.1f} s")
    while (left_s := soak.begun_s + duration_s - time.monotonic()) > 0 and soak.process.poll() is None:
        until_s = time.monotonic() + min(left_s, rng.uniform(*CALM_S))
        while time.monotonic() < until_s:
            soak.sample()
            time.sleep(1.0)
        if soak.begun_s + duration_s - time.monotonic() < CALM_S[1]:
            continue
        name = soak.disturb(rng)
        injected[name] += 1
        recovered_s = soak.wait(lambda: soak.fused("yard", "gate"), RECOVERY_S, f"{name}: fused again")
        slowest = max(slowest, (recovered_s, name))
        now = ", ".join(f"{name} {points[-1][1]:.0f}" for name, points in soak.series.items())
        say(f"{time.monotonic() - soak.begun_s:7.1f} s  {name}: fused again after {recovered_s:.1f} s; {now}")
    say(f"{injected.total()} faults; longest until fused again: {slowest[0]:.1f} s ({slowest[1]})")
    return injected


def end(soak: Soak) -> None:
    """The right password and a reload, then SIGTERM; what the log and the report say."""
    retries = (soak.rigs().get("roof") or {"status": {}})["status"].get("failed_starts")
    say(f"roof: {retries} failed starts, {soak.log.count('roof: cannot start')} times in the log")
    soak.write(RIGHT)
    soak.process.send_signal(signal.SIGHUP)
    say(f"roof: fused {soak.wait(lambda: soak.fused(*RIGS), FIX_S, 'roof after the reload'):.1f} s after the reload")
    soak.wait(lambda: soak.get("/readyz")[0] == 200, FIX_S, "/readyz of all rigs")
    begun_s = time.monotonic()
    soak.process.send_signal(signal.SIGTERM)
    try:
        code = soak.process.wait(30)
    except subprocess.TimeoutExpired:
        code = None
    say(f"SIGTERM: ended after {time.monotonic() - begun_s:.1f} s with exit code {code}")
    if code != 0:
        soak.problems.append(f"exit code {code} on SIGTERM")
    lines = [text for text in soak.log.splitlines() if re.match(r"\d\d:\d\d:\d\d ", text)]
    unnamed = [
        text for text in lines if not re.match(r"\d\d:\d\d:\d\d ((reload: )?(roof|yard|gate): |rtsp client)", text)
    ]
    say(f"{len(lines)} log lines, {len(unnamed)} without the name of their rig")
    soak.problems += unnamed[:5]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="soak_rigs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=seconds, default="30min", help="such as 60s; 30min if not given")
    parser.add_argument("--seed", default="", help="repeats the faults of a run; random if not given")
    parser.add_argument("--keep", type=Path, help="keep log and report in this folder")
    options = parser.parse_args()
    if not gst_rtsp_server():
        parser.exit(2, f"soak_rigs: {MISSING}\n")
    seed = options.seed or f"{random.SystemRandom().getrandbits(32):08x}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-rigs-")))
        soak = Soak(folder, stack, options.duration + 600)
        injected = run(soak, options.duration, random.Random(seed))
        end(soak)
        if options.keep:
            for name in ("log", "out", "rigs.yaml"):
                shutil.copy(folder / name, options.keep)
    say(f"{options.duration:.0f} s, seed {seed}:")
    for name, count in sorted(injected.items()):
        say(f"  {count} x {name}")
    flat = judge(soak.series, BOUNDS if options.duration >= SHORT_S else SHORT_BOUNDS, "hour", 3600.0)
    for problem, count in Counter(soak.problems).items():
        say(f"PROBLEM, {count} x: {problem}")
    return 0 if flat and not soak.problems else 1


if __name__ == "__main__":
    sys.exit(main())
