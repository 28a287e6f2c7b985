"""Viewers of the preview's video that misbehave, wrong offers, limits and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepipe.pipeline.sinks.live.preview import GENERATED_TOKEN

aiortc = pytest.importorskip("aiortc", reason="needs aiortc: pip install 'fusepipe[webrtc]'")

from helpers.page_users import PASSWORD, USERS  # noqa: E402
from helpers.webrtc_page import HOST, Page, Player, offer_of, post  # noqa: E402

VIEWER = Path(__file__).parents[2] / "peers" / "webrtc_viewer.py"


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as made:
        yield made


@pytest.mark.slow
def test_stalled_and_killed_viewers_affect_no_one_and_are_disconnected(page, monkeypatch):
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
                await asyncio.to_thread(frames_shown, viewer, 5)
            before, slow = len(player.frames), len(page.write_s)
            await asyncio.sleep(3)  # what a viewer gets while all is well, on a machine as busy as this one
            usual = (len(player.frames) - before) / (len(page.write_s) - slow)
            usual_s = float(np.median(page.write_s[slow:]))
            os.kill(viewers[0].pid, signal.SIGSTOP)
            viewers[1].kill()
            before, begun_s, slow = len(player.frames), time.monotonic(), len(page.write_s)
            while page.watching > 1:
                assert time.monotonic() - begun_s < 30, "the connection was not closed after six unanswered checks"
                await asyncio.sleep(0.05)
            elapsed_s = time.monotonic() - begun_s
            shown, written = len(player.frames) - before, len(page.write_s) - slow
            assert elapsed_s > 1.5, "a moment's silence is not the end"
            assert shown >= 0.8 * usual * written > 0, (shown, written, usual)
            assert np.median(page.write_s[slow:]) < max(0.01, 2 * usual_s)
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


def frames_shown(viewer: subprocess.Popen[str], count: int) -> None:
    assert viewer.stdout is not None
    for line in viewer.stdout:
        if line.strip().isdigit() and int(line) >= count:
            return
    raise AssertionError("the viewer ended")


async def warm(page: Page) -> None:
    async with aiohttp.ClientSession() as session:
        await post(session, page.whep, "no offer")


def test_a_session_that_never_connects_is_removed(page, monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.servers.web.whep.CONNECT_S", 3.0)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            peer, offer = await offer_of("video")
            assert (await post(session, page.whep, offer))[0] == 201
            assert page.watching == 1
            while page.watching:
                await asyncio.sleep(0.02)
            await peer.close()

    asyncio.run(asyncio.wait_for(script(), 60))


def test_logging_out_ends_the_video():
    async def script(page: Page) -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            form = {"name": "vic", "password": PASSWORD}
            origin = {"Origin": page.url("")}
            async with session.post(page.url("/login"), data=form, headers=origin) as answer:
                assert answer.status == 200 and answer.url.path == "/"
            player = await Player(session, page.whep).join()
            await player.until(3)
            assert not player.ended
            async with session.post(page.url("/logout"), headers=origin) as answer:
                assert answer.url.path == "/login"
            while not player.ended:
                await asyncio.sleep(0.05)
            await player.close()

    with Page(users=USERS) as page:
        asyncio.run(asyncio.wait_for(script(page), 60))


def test_addresses_in_an_offer_are_not_contacted(page):
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


def test_invalid_offers_are_refused_with_a_reason(page, monkeypatch):
    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            made = {kinds: await offer_of(*kinds) for kinds in [("video",), ("video", "audio"), ("data",), ("audio",)]}
            good = made["video",][1]
            await warm(page)
            cases = [
                ("no offer", 400, "exactly one video section; this one has: none"),
                ("m=video", 400, "not the SDP of a WebRTC offer"),
                (made["video", "audio"][1], 400, "this one has: video, audio"),
                (made["data",][1], 400, "this one has: application"),
                (made["audio",][1], 400, "this one has: audio"),
                (re.sub("a=fingerprint.*\r\n", "", good), 400, "a DTLS fingerprint"),
                (re.sub("a=ice-pwd.*\r\n", "", good), 400, "ICE credentials"),
                (good.replace("a=recvonly", "a=sendonly"), 400, "recvonly or sendrecv"),
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
            monkeypatch.setattr("fusepipe.pipeline.servers.web.whep.OFFER_S", 0.5)
            assert (await post(session, page.whep, slowly()))[0] == 408
            for peer, _ in made.values():
                await peer.close()

    asyncio.run(script())
    assert page.watching == 0


async def slowly() -> Any:
    yield b"v=0\r\n"
    await asyncio.sleep(3)
    yield b"s=-\r\n"


def test_the_viewer_limit_is_enforced():
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


def test_the_token_is_required_and_the_candidate_is_the_local_address():
    async def script(page: Page) -> None:
        async with aiohttp.ClientSession() as session:
            peer, offer = await offer_of("video")
            assert (await post(session, page.whep, offer))[0] == 401
            async with session.delete(page.whep + "/nobody") as answer:
                assert answer.status == 401
            bearer = {"Authorization": f"Bearer {GENERATED_TOKEN}"}
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
def test_random_text_is_refused_or_accepted_without_errors(good_offer, data):
    from fusepipe.pipeline.servers.web.peer import OfferError, readable_offer

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
    with contextlib.suppress(OfferError):  # as with TURN servers, whose candidates are read
        readable_offer("\r\n".join(lines), HOST)
