"""WebRTC video of the preview page in a real browser: playback, correct images, fallback to Motion JPEG."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.chromium import Tab, browse
from peers.thin_link import ThinLink

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.sinks.live.preview import WebPreviewSink
from fusepipe.pipeline.testing import MS, frame

pytest.importorskip("aiortc", reason="needs aiortc: pip install 'fusepipe[webrtc]'")
HEIGHT, WIDTH = 240, 320
DARK, BRIGHT, MARK = 40, 200, 250
FRAMES = "document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames"
PLAYING = "!document.getElementById('video').hidden && document.getElementById('video').currentTime > 0"
RECORD = {"read": {"infrared": 12, "visible": 11}, "pairs": {"fused": 10}, "latency_ms": {"p50": 20.0, "p99": 40.0}}
# what the video shows: (r, g, b) at some places, and where the mark is
LOOK = """(() => {
  const video = document.getElementById("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const at = (x, y) => [...pen.getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
  const row = pen.getImageData(0, canvas.height / 2, canvas.width, 1).data;
  let mark = -1;
  for (let x = 0; x < canvas.width; x++) if (row[4 * x] > 230) { mark = x; break; }
  return { left: at(0.1, 0.1), right: at(0.9, 0.1), mark, width: video.videoWidth, time: video.currentTime };
})()"""


class Rig:
    """Shows a dark and a bright half with a mark that wanders; ``shape`` may change on the way."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}/"
        self.sink = WebPreviewSink("127.0.0.1", port, "roof", lambda: RECORD, live=True)
        self.shape = (HEIGHT, WIDTH)
        self.grain: np.ndarray | None = None  # moving texture, for large frames
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name="camera")

    @property
    def by_video(self) -> int:
        with urllib.request.urlopen(f"{self.url}api/rigs", timeout=5) as answer:
            return int(json.load(answer)["rigs"]["roof"]["video_clients"])

    def _run(self) -> None:
        index = 0
        while not self.stop.wait(0.04):
            at_ns, (height, width) = time.monotonic_ns(), self.shape
            fused = np.full((height, width), DARK, np.uint8)
            fused[:, width // 2 :] = BRIGHT
            x = (index * 4) % (width - 32)
            fused[height // 2 - 16 : height // 2 + 16, x : x + 32] = MARK
            visible = frame(Band.VISIBLE, index, at_ns, pixels=np.full((height, width), 50, np.uint8), chroma=True)
            infrared = frame(Band.INFRARED, index, at_ns, pixels=np.full((height, width), 120, np.uint8))
            pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible, 2 * MS, luma=infrared.luma)
            neutral = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
            if self.grain is not None:
                fused = fused // 2 + np.roll(self.grain, 7 * index, axis=1)
                fused[::5] = np.roll(fused[::5], 3 * index, axis=1)
            planes = (Plane(fused), neutral, neutral)
            self.sink.write(FusedFrame(pair, planes, PairState.FUSED, index, at_ns, at_ns, visible.time_base))
            index += 1


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.sink.start()
    made.thread.start()
    yield made
    made.stop.set()
    made.thread.join(10)
    made.sink.close()


def right(seen: dict[str, Any]) -> bool:
    """Whether the two halves have their levels: full range, not stretched from 16..235, and no colour."""
    return all(abs(v - DARK) <= 4 for v in seen["left"]) and all(abs(v - BRIGHT) <= 4 for v in seen["right"])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_the_video_plays(width: int, tmp_path: Path, rig: Rig) -> None:
    async def look(tab: Tab) -> None:
        await tab.size(width, 1000)
        await tab.open(rig.url)
        await tab.until(PLAYING, 60)
        first = await tab.value(LOOK)
        assert first["width"] == WIDTH and right(first), first
        await tab.until(f"{LOOK}.mark !== {first['mark']} && {LOOK}.time > {first['time'] + 0.5}")
        assert rig.by_video == 1
        assert await tab.value("document.getElementById('live').hidden")
        assert await tab.value("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
        await tab.until("document.getElementById('counts').textContent.includes('over WebRTC1')")
        shot = cv2.imread(str(await tab.screenshot(tmp_path / "video.png")))
        for level in (DARK, BRIGHT):
            assert np.all(np.abs(shot.astype(int) - level) <= 4, axis=2).mean() > 0.05, level

        rig.shape = (480, 640)  # the camera came back with another size
        await tab.until("document.getElementById('video').videoWidth === 640")
        assert right(await tab.value(LOOK))

        await tab.value("document.querySelector('[data-view=visible]').click()")
        await tab.until("document.getElementById('live').naturalWidth === 640")
        assert await tab.value("document.getElementById('video').hidden")
        await tab.until("document.getElementById('counts').textContent.includes('over WebRTC0')")
        await tab.value("document.querySelector('[data-view=fused]').click()")
        await tab.until(PLAYING)
        assert rig.by_video == 1
        await tab.call("Page.navigate", url="about:blank")
        end_s = time.monotonic() + 10
        while rig.by_video:
            assert time.monotonic() < end_s, "leaving the page ends the session"
            await asyncio.sleep(0.05)
        seen.append(width)

    seen: list[int] = []
    browse(tmp_path / "profile", look)
    assert seen == [width]


@pytest.mark.slow
def test_without_udp_the_page_falls_back_to_motion_jpeg(
    tmp_path: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a reverse proxy, or a firewall that lets no UDP through."""
    from fusepipe.pipeline.servers.web.peer import Peer

    answer = Peer.answer

    async def blocked(self: Peer, offer: str) -> str:
        return re.sub(r"(127\.0\.0\.1) \d+ typ", r"\1 9 typ", await answer(self, offer))

    monkeypatch.setattr(Peer, "answer", blocked)

    async def look(tab: Tab) -> None:
        await tab.open(rig.url)
        await tab.until("typeof retryAt !== 'undefined' && retryAt > 0", 60)
        await tab.until(f"document.getElementById('live').naturalWidth === {WIDTH}")
        assert await tab.value("document.getElementById('video').hidden")
        assert await tab.value("document.getElementById('state').textContent") == "fused"
        assert rig.by_video == 0, "the page has said that it gave up"
        monkeypatch.setattr(Peer, "answer", answer)
        await tab.until(PLAYING)  # it tries again after ten seconds
        seen.append("images, then video")

    seen: list[str] = []
    browse(tmp_path / "profile", look)
    assert seen


THROUGH = """
  const ask = window.fetch;
  window.fetch = async (url, options) => {
    const answer = await ask(url, options);
    if (!String(url).endsWith("/whep") || answer.status !== 201) return answer;
    const text = await answer.text(), named = text.match(/a=candidate:\\S+ 1 udp \\d+ \\S+ (\\d+)/);
    window.serverPort = Number(named[1]);
    const led = text.replace(named[0], named[0].replace(new RegExp(`${named[1]}$`), "PORT"));
    return new Response(led, { status: 201, headers: { Location: answer.headers.get("Location") } });
  };
"""


@pytest.mark.slow
def test_a_browser_on_a_slow_link_gets_fewer_frames_without_overload(tmp_path: Path, rig: Rig) -> None:
    """The video has more than 1 Mbit/s, and the link takes a fifth of that or less."""
    rig.grain = np.random.default_rng(1).integers(0, 60, (HEIGHT, WIDTH), dtype=np.uint8)
    takes_bps = 200_000.0

    async def look(tab: Tab) -> None:
        with ThinLink() as link:
            await tab.call("Page.enable")
            await tab.call("Page.addScriptToEvaluateOnNewDocument", source=THROUGH.replace("PORT", str(link.port)))
            await tab.open(rig.url)
            await tab.until("window.serverPort > 0", 60)
            link.lead_to(await tab.value("window.serverPort"))
            await tab.until(PLAYING)
            before = link.bytes.total()
            await asyncio.sleep(3)
            free_bps = 8 * (link.bytes.total() - before) / 3
            assert free_bps > 5 * takes_bps, "the link will be too slow"
            link.rate_bps = takes_bps
            await asyncio.sleep(8)
            before, frames = link.bytes.total(), await tab.value(FRAMES)
            await asyncio.sleep(8)
            offered_bps = 8 * (link.bytes.total() - before) / 8
            assert offered_bps < 1.4 * takes_bps, "what is lost is not asked for again and again"
            await tab.until(f"{FRAMES} > {frames}", 5)
            link.rate_bps = None
            frames = await tab.value(FRAMES)
            await tab.until(f"{FRAMES} > {frames + 50}", 60)
            seen.append((free_bps, offered_bps))

    seen: list[tuple[float, float]] = []
    browse(tmp_path / "profile", look)
    assert seen
