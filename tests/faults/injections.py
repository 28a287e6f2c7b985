"""The faults: what is done to a running rig, for how long, and the states expected of it.

An injection blocks while its fault lasts. It returns the recovery time in seconds of something other than the rig's
output (such as a push target), or None.
"""

from __future__ import annotations

import math
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from faults.bench import HOST, INFRARED, VISIBLE, Bench, until

from fusepipe.pipeline.servers.rtsp.message import Parser, Request, Response

SIZES = ("160x120", "240x180", "320x240", "480x360")
SHORT_REST_S = (1.0, 4.0)
# A camera that fails again within ten seconds is waited for ever longer, which is another fault than the one measured.
REST_S = (10.5, 13.0)
DISCONNECT_S = 30.0  # stalled clients are disconnected after 10 s


@dataclass(frozen=True, slots=True)
class Fault:
    """``act`` injects it. The rig must have all states of ``seen``, and none outside ``allowed``.

    ``needs`` are arguments of :class:`Bench`. ``alone``: each injection has a run of its own. ``gap_s`` bounds the time
    without output, ``recovery_s`` the time until the rig is fused again. ``noise_kbps`` is shown by the visible camera.
    ``rest_s`` is between two injections of a long run.
    """

    act: Callable[[Bench, random.Random], float | None]
    seen: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset({"fused", "held", "single", "no signal"})
    needs: tuple[str, ...] = ()
    alone: bool = False
    gap_s: float = 3.0
    recovery_s: float = 30.0
    noise_kbps: int = 0
    rest_s: tuple[float, float] = SHORT_REST_S


def both(act: Callable[[Bench, random.Random, str], None]) -> Callable[[Bench, random.Random], None]:
    """The same for both cameras."""

    def acts(bench: Bench, rng: random.Random) -> None:
        seed = rng.random()
        threads = [
            threading.Thread(target=act, args=(bench, random.Random(seed), band), name=f"fault-{band}")
            for band in (INFRARED, VISIBLE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return acts


def to(band: str, act: Callable[[Bench, random.Random, str], None]) -> Callable[[Bench, random.Random], None]:
    return lambda bench, rng: act(bench, rng, band)


# -- cameras


def hang(bench: Bench, rng: random.Random, band: str) -> None:
    camera = bench.cameras[band]
    camera.send(signal.SIGSTOP)
    time.sleep(rng.uniform(1.5, 3.0) if bench.patient else rng.uniform(1.5, 2.0))
    camera.send(signal.SIGCONT)


def die(bench: Bench, rng: random.Random, band: str) -> None:
    camera = bench.cameras[band]
    camera.kill()
    time.sleep(rng.uniform(0.2, 1.5))
    camera.start()


def other_size(bench: Bench, rng: random.Random, band: str) -> None:
    camera = bench.cameras[band]
    camera.kill()
    camera.size = rng.choice([size for size in SIZES if size != camera.size])
    camera.start()


def freeze(bench: Bench, rng: random.Random, band: str) -> None:
    camera = bench.cameras[band]
    camera.send(signal.SIGUSR1)
    time.sleep(rng.uniform(0.8, 2.0))
    camera.send(signal.SIGUSR1)


def other_password(bench: Bench, rng: random.Random, band: str) -> None:
    """The camera requires a password that the rig lacks: one attempt, then none until it requires none again."""
    camera, failed = bench.cameras[band], "authentication failed"
    before = bench.failures(band)[failed]
    camera.kill()
    camera.user = "ann:hunter2"
    camera.start()
    until(lambda: bench.failures(band)[failed] > before, 30, "the camera was not tried again")
    time.sleep(rng.uniform(1.0, 2.0))
    assert bench.failures(band)[failed] == before + 1, "an account is locked after a few attempts"
    camera.kill()
    camera.user = ""
    camera.start()


# -- the network


def lose(share: float) -> Callable[[Bench, random.Random], None]:
    def act(bench: Bench, rng: random.Random) -> None:
        for band, relay in bench.relays.items():
            relay.harm.rng = random.Random(f"{rng.random()} {band}")
            relay.harm.loss = share
        time.sleep(rng.uniform(3.0, 5.0) if bench.patient else 2.0)
        for relay in bench.relays.values():
            relay.harm.loss = 0.0

    return act


def set_back(bench: Bench, rng: random.Random, band: str) -> None:
    """The camera's clock is set back by a second to an hour.

    Not less than a second: a wall clock that is half a second late is one whose frames may as well have taken so long.
    """
    bench.relays[band].harm.back_s += math.exp(rng.uniform(0.0, math.log(3600)))
    time.sleep(0.5)


# -- outputs


def never_read(bench: Bench, rng: random.Random) -> None:
    """A client plays and never reads again, until it is disconnected."""
    before = bench.stream_counts().disconnected
    url = f"rtsp://{HOST}:{bench.port}/roof"
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(10)
        link.connect((HOST, bench.port))
        setup = _ask(link, Request("SETUP", url, {"CSeq": "1", "Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}))
        session = setup.headers["session"].partition(";")[0]
        link.sendall(Request("PLAY", url, {"CSeq": "2", "Session": session}).encode())
        until(lambda: bench.stream_counts().disconnected > before, DISCONNECT_S, "the client was not disconnected")


def _ask(link: socket.socket, request: Request) -> Response:
    link.sendall(request.encode())
    parser = Parser()
    while True:
        for message in parser.feed(link.recv(4096)):
            assert isinstance(message, Response) and message.status == 200
            return message


def freeze_target(bench: Bench, rng: random.Random) -> float:
    """The push target freezes; returns the time until it receives frames again."""
    recorder = bench.recorder
    recorder.process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(2.0, 15.0) if bench.patient else 3.0)
    before, begun_s = recorder.buffers, time.monotonic()
    recorder.process.send_signal(signal.SIGCONT)
    assert recorder.has_more_than(before + 5, 60), "nothing is pushed any more"
    return time.monotonic() - begun_s


def fill_disk(bench: Bench, rng: random.Random) -> None:
    """Another program fills the disk, until the recording detects it."""
    ballast = bench.disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass  # full, as intended
    until(lambda: bench.messages.said("No space left on device"), 15, "nobody said that the disk is full")
    ballast.unlink()


# -- the engine


def slow_engine(bench: Bench, rng: random.Random) -> None:
    delay_s, begun_s = rng.uniform(0.15, 0.4), time.monotonic()
    bench.engine.delay_s = delay_s
    time.sleep(rng.uniform(2.0, 4.0))
    bench.engine.delay_s = 0.0
    oldest_s = max(each.age_s for each in bench.watch.since(begun_s))
    # one being fused, two that wait before it and two before those, and what a busy machine adds
    assert oldest_s < 6 * delay_s + 1.0, f"frames {oldest_s:.2f} s old: a queue grows"


def states(*names: str) -> frozenset[str]:
    return frozenset(names)


FAULTS: dict[str, Fault] = {
    "infrared camera hangs (SIGSTOP)": Fault(to(INFRARED, hang), states("held", "single"), rest_s=REST_S),
    "visible camera hangs": Fault(to(VISIBLE, hang), states("single"), rest_s=REST_S),
    "both hang": Fault(both(hang), states("no signal"), rest_s=REST_S),
    "infrared camera dies (SIGKILL)": Fault(to(INFRARED, die), states("held"), rest_s=REST_S),
    "visible camera dies": Fault(to(VISIBLE, die), rest_s=REST_S),
    "infrared camera returns with another size": Fault(to(INFRARED, other_size), rest_s=REST_S),
    "visible camera returns with another size": Fault(to(VISIBLE, other_size), rest_s=REST_S),
    "infrared image freezes, timestamps continue": Fault(
        # the hold ends one second after the freeze is detected, which is about when the image changes again
        to(INFRARED, freeze),
        states("held"),
        states("fused", "held", "single"),
        gap_s=1.5,
    ),
    "infrared camera changes its password": Fault(
        to(INFRARED, other_password), states("single"), recovery_s=60.0, rest_s=REST_S
    ),
    "1 % packet loss on both cameras": Fault(lose(0.01), needs=("udp",), noise_kbps=800),
    "5 % packet loss on both cameras": Fault(lose(0.05), needs=("udp",), noise_kbps=800),
    "infrared camera's clock is set back": Fault(to(INFRARED, set_back), needs=("udp",)),
    "visible camera's clock is set back": Fault(to(VISIBLE, set_back), needs=("udp",)),
    "an RTSP client never reads": Fault(never_read, allowed=states("fused", "held"), needs=("serve",), noise_kbps=2000),
    "the push target hangs": Fault(freeze_target, allowed=states("fused", "held"), needs=("push",), noise_kbps=2000),
    "the disk of one sink is full": Fault(fill_disk, allowed=states("fused", "held"), needs=("disk",), alone=True),
    "the engine is slow": Fault(slow_engine, gap_s=2.0),
}
