"""WebRTC video of the preview page with aiortc as the player: the life of sessions."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import psutil
import pytest
from helpers.waiting import wait_for

from fusepipe.pipeline.encoding.live_encoder import LiveEncoder
from fusepipe.pipeline.servers.web import video_feed

aiortc = pytest.importorskip("aiortc", reason="needs aiortc: pip install 'fusepipe[webrtc]'")

from helpers.webrtc_page import HOST, Page, Player  # noqa: E402


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as made:
        yield made


def test_encoded_frames_arrive_byte_for_byte(page, monkeypatch):
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
        raise AssertionError("the frame was transcoded")

    monkeypatch.setattr(LiveEncoder, "encode", note_sent)
    monkeypatch.setattr(aiortc.codecs.h264.H264Decoder, "decode", note_received)
    monkeypatch.setattr(aiortc.codecs.h264.H264Encoder, "encode", never)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            await player.until(15)
            assert page.watching == 1
            assert player.frames[0].shape == (120, 160)
            assert abs(float(player.frames[0].mean()) - 119.5) < 3
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
    assert len(sent) <= len(page.write_s), "no frame is encoded twice"


def test_a_lost_frame_causes_a_key_frame(page, monkeypatch):
    keys = []
    encode = LiveEncoder.encode

    def note(self, shot, **options):
        unit = encode(self, shot, **options)
        keys.append(unit.key)
        return unit

    monkeypatch.setattr(LiveEncoder, "encode", note)
    rarely = replace(video_feed.ENCODING, key_frame_ns=600 * 10**9)  # unasked: not while this test runs
    monkeypatch.setattr(video_feed, "ENCODING", rarely)

    async def script() -> None:
        async with aiohttp.ClientSession() as session:
            player = await Player(session, page.whep).join()
            await player.until(10)
            before = sum(keys)
            begun_s = time.monotonic()
            (ssrc,) = [source.source for source in player.receiver.getSynchronizationSources()]
            await player.receiver._send_rtcp_pli(ssrc)
            while sum(keys) == before:
                assert time.monotonic() - begun_s < 20, "it was asked for"
                await asyncio.sleep(0.01)
            await player.close()

    asyncio.run(script())


def test_a_viewer_that_joins_late_starts_immediately(page):
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


def test_sessions_leak_nothing(page):
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
