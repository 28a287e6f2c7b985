"""The preview page's video by WebRTC, with aiortc as the player: sessions, limits, and viewers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepipe.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.sinks.live_encoder import LiveEncoder
from fusepipe.pipeline.sinks.preview import MADE_UP_TOKEN, PreviewSink
from fusepipe.pipeline.testing import frame

aiortc = pytest.importorskip("aiortc", reason="needs aiortc: pip install 'fusepipe[webrtc]'")
HOST = "127.0.0.1"
VIEWER = Path(__file__).parent / "peers" / "webrtc_viewer.py"
SDP = {"Content-Type": "application/sdp"}


class Page:
    """A page whose rig shows a moving picture, about 25 times a second; ``write_s`` is how long each took."""

    def __init__(self, host: str = HOST, **options: Any) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.sink = PreviewSink(host, self.port, "roof", dict, live=True, **options)
        self.write_s: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")

    def __enter__(self) -> Page:
        self.sink.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self.sink.close()

    def url(self, path: str, host: str = HOST) -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def whep(self) -> str:
        return self.url("/rigs/roof/whep")

    @property
    def watching(self) -> int:
        """By WebRTC, now."""
        assert self.sink._view is not None
        return int(self.sink._view.record()["video_clients"])

    def _run(self) -> None:
        index = 0
        noise = np.random.default_rng(1).integers(0, 40, (120, 160), dtype=np.uint8)
        while not self._stop.wait(0.04):
            at_ns = time.monotonic_ns()
            pixels = np.roll(noise, index, axis=1) + 100
            visible = frame(Band.VISIBLE, index, at_ns, pixels=pixels)
            pair = FramePair(index, PairState.SINGLE, Band.VISIBLE, None, visible)
            shot = FusedFrame(pair, (Plane(pixels),), PairState.SINGLE, index, at_ns, at_ns, visible.time_base)
            self.sink.write(shot)
            self.write_s.append((time.monotonic_ns() - at_ns) / 1e9)
            index += 1


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as made:
        yield made


def wait_for(condition: Any, timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "did not happen in time"
        time.sleep(0.02)


async def offer_of(*kinds: str) -> tuple[Any, str]:
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    for kind in kinds:
        if kind == "data":
            peer.createDataChannel("chat")
        else:
            peer.addTransceiver(kind, "recvonly")
    await peer.setLocalDescription()
    return peer, peer.localDescription.sdp


async def post(session: aiohttp.ClientSession, url: str, data: Any, **headers: str) -> tuple[int, str, Any]:
    """Asks again while aiortc is being loaded, as the page does."""
    end_s = time.monotonic() + 60
    while True:
        async with session.post(url, data=data, headers={**SDP, **headers}) as answer:
            text = await answer.text()
            if "being loaded" not in text or time.monotonic() > end_s:
                return answer.status, text, answer.headers
        await asyncio.sleep(0.1)


class Player:
    """One viewer in this process; ``pictures`` are what it decoded."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.pictures: list[np.ndarray] = []
        self.answer, self.location = "", ""
        self.ended = False

    async def join(self) -> Player:
        self.peer, offer = await offer_of("video")
        self.receiver = self.peer.getReceivers()[0]
        self.task = asyncio.create_task(self._watch())
        status, self.answer, headers = await post(self.session, self.url, offer)
        assert status == 201, self.answer
        self.location = urljoin(self.url, headers["Location"])
        assert headers["Content-Type"] == "application/sdp"
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(self.answer, "answer"))
        return self

    async def _watch(self) -> None:
        while self.receiver.track is None:
            await asyncio.sleep(0.01)
        try:
            while True:
                self.pictures.append((await self.receiver.track.recv()).to_ndarray(format="gray"))
        except aiortc.mediastreams.MediaStreamError:
            self.ended = True

    async def until(self, count: int, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.pictures) < count:
                await asyncio.sleep(0.02)

    async def leave(self) -> int:
        async with self.session.delete(self.location) as answer:
            return answer.status

    async def close(self) -> None:
        await self.peer.close()
        self.task.cancel()
        await asyncio.wait([self.task], timeout=10)


# -- a session from the first to the last


def test_the_encoded_pictures_arrive_byte_for_byte(page, monkeypatch):
    sent, received = [], []
    encode, decode = LiveEncoder.encode, aiortc.codecs.h264.H264Decoder.decode

    def note_sent(self, shot, **options):
        unit = encode(self, shot, **options)
        sent.append(unit.annex_b())
        return unit

    def note_received(self, encoded):
        received.append(encoded.data)
        return decode(self, encoded)

    def never(*_, **__):
        raise AssertionError("the picture was encoded again")

    monkeypatch.setattr(LiveEncoder, "encode", note_sent)
    monkeypatch.setattr(aiortc.codecs.h264.H264Decoder, "decode", note_received)
    monkeypatch.setattr(aiortc.codecs.h264.H264Encoder, "encode", never)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            await player.until(15)
            assert page.watching == 1
            assert player.pictures[0].shape == (120, 160)
            assert abs(float(player.pictures[0].mean()) - 119.5) < 3
            assert re.search(r"m=video \d+ UDP/TLS/RTP/SAVPF", player.answer)
            assert "profile-level-id=42e01f" in player.answer and "VP8" not in player.answer
            candidates = re.findall(r"a=candidate:.*", player.answer)
            assert len(candidates) == 1 and f" {HOST} " in candidates[0] and "typ host" in candidates[0]
            async with session.get(page.url("/metrics")) as answer:
                assert 'fusepipe_preview_video_clients{rig="roof"} 1.0' in await answer.text()
            assert await player.leave() == 200
            assert page.watching == 0
            assert await player.leave() == 404
            await player.close()

    asyncio.run(script())
    assert len(received) >= 15
    assert received[0] in sent and set(received) <= set(sent)
    assert len(sent) <= len(page.write_s), "no picture is encoded twice"


def test_a_lost_picture_brings_a_key_frame(page, monkeypatch):
    keys = []
    encode = LiveEncoder.encode

    def note(self, shot, **options):
        unit = encode(self, shot, **options)
        keys.append(unit.key)
        return unit

    monkeypatch.setattr(LiveEncoder, "encode", note)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            await player.until(10)
            before = sum(keys)
            begun_s = time.monotonic()
            (ssrc,) = [source.source for source in player.receiver.getSynchronizationSources()]
            await player.receiver._send_rtcp_pli(ssrc)
            while sum(keys) == before:
                assert time.monotonic() - begun_s < 1.5, "two seconds apart they come unasked"
                await asyncio.sleep(0.01)
            await player.close()

    asyncio.run(script())


def test_a_viewer_that_joins_late_begins_at_once(page):
    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            first = await Player(session, page.whep).join()
            await first.until(5)
            second = await Player(session, page.whep).join()
            await second.until(5)
            await first.until(10)
            assert page.watching == 2
            await asyncio.gather(first.close(), second.close())

    asyncio.run(script())
    wait_for(lambda: page.watching == 0)


def test_the_end_of_the_rig_ends_the_sessions():
    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            with Page() as page:
                player = await Player(session, page.whep).join()
                await player.until(3)
                await asyncio.to_thread(page.__exit__)
            async with asyncio.timeout(20):
                await player.task
            assert player.ended
            await player.close()

    asyncio.run(script())
    assert not [t for t in threading.enumerate() if t.name.startswith("preview-")]


def test_sessions_leave_nothing_behind(page):
    process = psutil.Process()

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            for turn in range(12):
                player = await Player(session, page.whep).join()
                await player.until(1)
                if turn % 2:
                    await player.leave()
                await player.close()
                while page.watching:
                    await asyncio.sleep(0.02)
                counts.append((process.num_fds(), len(threading.enumerate())))

    counts: list[tuple[int, int]] = []
    asyncio.run(script())
    # one thread more: the server's pool of two may have had one until now
    assert counts[-1][0] <= counts[2][0] + 1 and counts[-1][1] <= counts[2][1] + 1, counts


# -- who misbehaves


@pytest.mark.slow
def test_frozen_and_killed_viewers_disturb_nobody_and_are_given_up(page, monkeypatch):
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.5)  # five seconds else

    viewers = [
        subprocess.Popen([sys.executable, str(VIEWER), page.whep], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            await player.until(5)
            while page.watching < 3:
                await asyncio.sleep(0.05)
            for viewer in viewers:
                await asyncio.to_thread(pictures_shown, viewer, 5)
            os.kill(viewers[0].pid, signal.SIGSTOP)
            viewers[1].kill()
            before, begun_s, slow = len(player.pictures), time.monotonic(), len(page.write_s)
            while page.watching > 1:
                assert time.monotonic() - begun_s < 30, "given up after six silent checks"
                await asyncio.sleep(0.05)
            elapsed_s = time.monotonic() - begun_s
            shown, written = len(player.pictures) - before, len(page.write_s) - slow
            assert elapsed_s > 1.5, "a moment's silence is not the end"
            assert shown >= 0.8 * written > 0, (shown, written)
            assert np.median(page.write_s[slow:]) < 0.01
            await player.close()

    try:
        # aiortc is loaded by the first who asks
        asyncio.run(warm(page))
        asyncio.run(script())
    finally:
        for viewer in viewers:
            viewer.kill()
            viewer.wait(10)
            assert viewer.stdout is not None
            viewer.stdout.close()


def pictures_shown(viewer: subprocess.Popen[str], count: int) -> None:
    assert viewer.stdout is not None
    for line in viewer.stdout:
        if line.strip().isdigit() and int(line) >= count:
            return
    raise AssertionError("the viewer ended")


async def warm(page: Page) -> None:
    async with aiohttp.ClientSession() as session:
        await post(session, page.whep, "no offer")


def test_one_that_never_connects_is_forgotten(page, monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.web.whep.CONNECT_S", 0.5)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            peer, offer = await offer_of("video")
            assert (await post(session, page.whep, offer))[0] == 201
            assert page.watching == 1
            while page.watching:
                await asyncio.sleep(0.02)
            await peer.close()

    asyncio.run(asyncio.wait_for(script(), 60))


def test_addresses_that_an_offer_names_are_left_alone(page):
    async def script() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as named:
            named.bind((HOST, 0))
            named.setblocking(False)
            port = named.getsockname()[1]
            async with aiohttp.ClientSession() as session:
                peer, offer = await offer_of("video")
                lines = [line for line in offer.splitlines() if "candidate" not in line]
                lines += [
                    f"a=candidate:1 1 udp 2130706431 {HOST} {port} typ host",
                    "a=candidate:2 1 udp 2130706430 4711.local 9 typ host",
                    "a=end-of-candidates",
                ]
                status, _, headers = await post(session, page.whep, "\r\n".join([*lines, ""]))
                assert status == 201
                await asyncio.sleep(1.5)
                with pytest.raises(BlockingIOError):
                    named.recv(2048)
                async with session.delete(urljoin(page.whep, headers["Location"])) as answer:
                    assert answer.status == 200
                await peer.close()

    asyncio.run(script())


def test_wrong_offers_are_refused_with_a_line(page, monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.web.whep.OFFER_S", 0.5)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            made = {kinds: await offer_of(*kinds) for kinds in [("video",), ("video", "audio"), ("data",), ("audio",)]}
            good = made["video",][1]
            await warm(page)
            cases = [
                ("no offer", 400, "one video section to receive; this one has none"),
                ("m=video", 400, "no SDP of a WebRTC offer"),
                (made["video", "audio"][1], 400, "this one has video, audio"),
                (made["data",][1], 400, "this one has application"),
                (made["audio",][1], 400, "this one has audio"),
                (re.sub("a=fingerprint.*\r\n", "", good), 400, "a DTLS fingerprint"),
                (re.sub("a=ice-pwd.*\r\n", "", good), 400, "ICE credentials"),
                (good.replace("a=recvonly", "a=sendonly"), 400, "an offer to receive video"),
                (good.replace("H264", "H265"), 400, "has no H.264"),
                (good.replace("packetization-mode=1", "packetization-mode=0"), 400, "has no H.264"),
                ("a=x\r\n" * 10_000, 413, ""),
                (b"\xff\xfe", 400, "UTF-8"),
                ("", 400, ""),
            ]
            for data, status, text in cases:
                got = await post(session, page.whep, data)
                assert (got[0], text in got[1]) == (status, True), (data[:40], got)
            assert (await post(session, page.url("/rigs/mast/whep"), good))[0] == 404
            assert (await post(session, page.whep, good, **{"Content-Type": "text/plain"}))[0] == 415
            assert (await post(session, page.whep, good, Origin="http://evil.example"))[0] == 403
            async with session.get(page.whep) as answer:
                assert answer.status == 405
            async with session.delete(page.whep + "/nobody") as answer:
                assert answer.status == 404
            assert (await post(session, page.whep, slowly()))[0] == 408
            for peer, _ in made.values():
                await peer.close()

    asyncio.run(script())
    assert page.watching == 0


async def slowly() -> Any:
    yield b"v=0\r\n"
    await asyncio.sleep(3)
    yield b"s=-\r\n"


def test_no_more_watch_than_may():
    async def script(page: Page) -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            peer, offer = await offer_of("video")
            assert (await post(session, page.whep, offer))[0] == 503
            async with session.get(page.url("/rigs/roof/live.mjpg")) as answer:
                assert answer.status == 503
            await player.leave()
            assert (await post(session, page.whep, offer))[0] == 201
            await asyncio.gather(player.close(), peer.close())

    with Page(max_clients=1) as page:
        asyncio.run(script(page))


def test_the_token_is_needed_and_the_address_is_the_one_that_was_reached():
    async def script(page: Page) -> None:
        async with aiohttp.ClientSession() as session:
            peer, offer = await offer_of("video")
            assert (await post(session, page.whep, offer))[0] == 401
            async with session.delete(page.whep + "/nobody") as answer:
                assert answer.status == 401
            bearer = {"Authorization": f"Bearer {MADE_UP_TOKEN}"}
            url = page.url("/rigs/roof/whep", "127.0.0.2")
            status, text, headers = await post(session, url, offer, **bearer)
            assert status == 201
            assert re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+)", text) == ["127.0.0.2"]
            async with session.delete(urljoin(url, headers["Location"])) as answer:
                assert answer.status == 401, "knowing the session is not enough"
            async with session.delete(urljoin(url, headers["Location"]), headers=bearer) as answer:
                assert answer.status == 200
            await peer.close()

    with Page("0.0.0.0") as page:
        asyncio.run(script(page))


@pytest.fixture(scope="module")
def good_offer() -> str:
    async def script() -> str:
        peer, offer = await offer_of("video")
        await peer.close()
        return offer

    return asyncio.run(script())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_text_is_an_offer_or_is_refused(good_offer, data):
    from fusepipe.pipeline.web.peer import OfferError, readable_offer

    lines = good_offer.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        action = data.draw(st.sampled_from(["drop", "cut", "text", "twice"]))
        if action == "drop" and len(lines) > 1:
            del lines[at]
        elif action == "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
        elif action == "text":
            lines[at] = lines[at][:2] + data.draw(st.text(max_size=30))
        else:
            lines.insert(at, lines[data.draw(st.integers(0, len(lines) - 1))])
    with contextlib.suppress(OfferError):  # anything else that is raised is a failure
        assert "a=candidate" not in readable_offer("\r\n".join(lines))
