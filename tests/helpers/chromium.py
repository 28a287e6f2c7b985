"""A real browser: headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

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
        """The value of a JavaScript expression; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
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

    async def screenshot(self, path: Path) -> Path:
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


def browse(profile: Path, script: Callable[[Tab], Awaitable[None]], *options: str) -> None:
    """Starts a browser, runs the script with a new tab, ends the browser. Skips where none is installed."""
    program = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    command = [program, *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"]
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
