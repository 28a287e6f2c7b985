"""A preview page with video, and a player."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import urljoin

import aiohttp
import aiortc
import numpy as np

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.sinks.live.preview import WebPreviewSink
from fusepipe.pipeline.testing import frame

HOST = "127.0.0.1"
SDP = {"Content-Type": "application/sdp"}


class Page:
    """A page of a rig with moving video at about 25 frames per second; ``write_s`` has the duration of each write."""

    def __init__(self, host: str = HOST, **options: Any) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.sink = WebPreviewSink(host, self.port, "roof", dict, live=True, **options)
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
        """The current number of WebRTC viewers."""
        with urllib.request.urlopen(self.url("/api/rigs"), timeout=5) as answer:
            return int(json.load(answer)["rigs"]["roof"]["video_clients"])

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
    """Repeats the request while aiortc is loading, as the page does."""
    end_s = time.monotonic() + 60
    while True:
        async with session.post(url, data=data, headers={**SDP, **headers}) as answer:
            text = await answer.text()
            if "still loading" not in text or time.monotonic() > end_s:
                return answer.status, text, answer.headers
        await asyncio.sleep(0.1)


class Player:
    """A viewer in this process; ``frames`` are the decoded frames."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.frames: list[np.ndarray] = []
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
                self.frames.append((await self.receiver.track.recv()).to_ndarray(format="gray"))
        except aiortc.mediastreams.MediaStreamError:
            self.ended = True

    async def until(self, count: int, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.frames) < count:
                await asyncio.sleep(0.02)

    async def leave(self) -> int:
        async with self.session.delete(self.location) as answer:
            return answer.status

    async def close(self) -> None:
        await self.peer.close()
        self.task.cancel()
        await asyncio.wait([self.task], timeout=10)
