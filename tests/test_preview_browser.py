"""The preview page in a real browser: headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

from fusepipe.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.sinks.preview import PreviewSink
from fusepipe.pipeline.testing import MS, frame

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
OPTIONS += ["--remote-debugging-port=0", "--remote-allow-origins=*"]


class Tab:
    """One page; every wait is bounded."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse) -> None:
        self._link, self._number = link, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._link.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(30):
            while True:
                answer = await self._link.receive_json()
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    return dict(answer["result"])

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 40.0) -> None:
        """Waits until a JavaScript expression is true."""
        end_s = time.monotonic() + timeout_s
        while not await self.value(expression):
            assert time.monotonic() < end_s, f"never true: {expression}"
            await asyncio.sleep(0.2)

    async def size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def open(self, url: str) -> None:
        await self.call("Page.enable")
        await self.call("Page.navigate", url=url)
        await self.until("location.href !== 'about:blank' && document.readyState !== 'loading'")

    async def picture(self, path: Path) -> Path:
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


def browse(profile: Path, script: Callable[[Tab], Awaitable[None]]) -> None:
    """Starts a browser, runs the script with a new tab, ends the browser. Skips where there is none."""
    program = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_drive(profile / "DevToolsActivePort", script))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def _drive(port_file: Path, script: Callable[[Tab], Awaitable[None]]) -> None:
    end_s = time.monotonic() + 60
    while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:
        assert time.monotonic() < end_s, "the browser did not start"
        await asyncio.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [p for p in await answer.json() if p["type"] == "page"]
        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 26) as link:
            await script(Tab(link))


RECORD = {
    "read": {"infrared": 12, "visible": 11},
    "pairs": {"fused": 10, "held": 1},
    "skew_ms": {"p95": 2.0},
    "latency_ms": {"p50": 20.0, "p99": 40.0},
    "depths": {"infrared": 1},
    "warnings": ["<b>a warning</b>"],
}


@pytest.fixture
def camera() -> threading.Event:
    """Set it to stop the pictures."""
    return threading.Event()


@pytest.fixture
def page(camera: threading.Event) -> Iterator[str]:
    """The address of a page with a rig: visible 50 everywhere, infrared 200, fused 120."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    sink = PreviewSink("127.0.0.1", port, "roof", lambda: RECORD)
    sink.start()

    def show() -> None:
        planes = {level: np.full((48, 64), level, np.uint8) for level in (50, 120, 200)}
        index = 0
        while not camera.wait(0.05):
            at_ns = index * 40 * MS
            visible = frame(Band.VISIBLE, index, at_ns, pixels=planes[50])
            infrared = frame(Band.INFRARED, index, at_ns, pixels=planes[200])
            pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible, 2 * MS, luma=Plane(planes[200]))
            fused = (Plane(planes[120]),)
            sink.write(FusedFrame(pair, fused, PairState.FUSED, index, at_ns, visible.pts, visible.time_base))
            index += 1

    thread = threading.Thread(target=show, name="camera")
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    camera.set()
    thread.join(10)
    sink.close()


def green_px(pixels: np.ndarray) -> int:
    """Of the badge that says `fused`."""
    return int(np.all(np.abs(pixels[:60].astype(int) - (0x7F, 0xC2, 0x5E)) <= 3, axis=2).sum())


def share(pixels: np.ndarray, level: int) -> float:
    return float(np.all(np.abs(pixels.astype(int) - level) <= 2, axis=2).mean())


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_shows_the_picture_and_the_numbers(width: int, tmp_path: Path, page: str) -> None:
    async def look(tab: Tab) -> None:
        await tab.size(width, 1000)
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'fused'")
        await tab.until("document.getElementById('live').naturalWidth === 64")
        await tab.until("!document.getElementById('skew-now').textContent.includes('–')")
        assert "11" in await tab.value("document.getElementById('main').textContent")
        assert "<b>a warning</b>" in await tab.value("document.getElementById('warnings').textContent"), (
            "text, not HTML"
        )
        assert await tab.value("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
        fused = cv2.imread(str(await tab.picture(tmp_path / "fused.png")))
        assert green_px(fused) > 300 and share(fused, 120) > 0.1
        await tab.value("document.querySelector('[data-view=side]').click()")
        await tab.until("document.getElementById('live').naturalWidth === 128")
        assert "view=side" in await tab.value("document.getElementById('snapshot').href")
        side = cv2.imread(str(await tab.picture(tmp_path / "side.png")))
        assert share(side, 50) > 0.04 and share(side, 200) > 0.04
        await tab.value("document.querySelector('[data-view=wipe]').click()")
        assert not await tab.value("document.getElementById('wipe').hidden")

    browse(tmp_path / "profile", look)


@pytest.mark.slow
def test_a_browser_says_so_when_pictures_stop(
    tmp_path: Path, page: str, camera: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusepipe.pipeline.web.rig_view.READY_S", 0.5)

    async def look(tab: Tab) -> None:
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'fused'")
        camera.set()
        await tab.until("document.getElementById('state').textContent === 'no picture'")
        seen.append("no picture")

    seen: list[str] = []
    browse(tmp_path / "profile", look)
    assert seen == ["no picture"]
