"""The preview page in a real browser: what it shows without WebRTC, as Motion JPEG."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from helpers.chromium import Tab, browse

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.pipeline.sinks.live.preview import PreviewStatus, WebPreviewSink
from fusepipe.pipeline.testing import MS, frame

RECORD = {
    "read": {"infrared": 12, "visible": 11},
    "pairs": {"fused": 10, "held": 1},
    "skew_ms": {"p95": 2.0},
    "latency_ms": {"p50": 20.0, "p99": 40.0},
    "depths": {"infrared": 1, "visible": 0, "sink-1": 2},
    "dropped": {"sink-1": 3},
    "sinks": [{"sink": "rtsp://127.0.0.1:8554/roof", "up": False, "failures": 2, "restarts": 1, "missed": 40}],
    "sources": {"visible": {"width": 640, "height": 480, "codec": "h264", "fps": 25.0}},
    "live": {
        "cameras": {
            "visible": {
                "clock": {"grade": "rtcp", "skew_ppm": -12.5, "jitter_ms": 0.8},
                "connections": 2,
                "failures": {"timeout": 1},
            }
        }
    },
    "drift": {"state": "ok", "offset_px": 0.6, "corrected_px": 0.0, "checks": 9, "blind": 2, "events": []},
    "warnings": ["<b>a warning</b>"],
}


SKEW_NS = -1_110_000


@pytest.fixture
def camera() -> threading.Event:
    """Set to stop the frames."""
    return threading.Event()


@pytest.fixture
def page(camera: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a page with a rig: visible 50 everywhere, infrared 200, fused 120. There is no aiortc."""

    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.delitem(sys.modules, "fusepipe.pipeline.servers.web.peer", raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    begun_s = time.monotonic()

    def record() -> dict[str, Any]:
        """Pairing takes a quarter of a core, the process half a core."""
        run_s = time.monotonic() - begun_s
        stages = {"watch": 0.0, "write-1": 0.0, "fuse": 0.0, "pair": run_s / 4}
        return {**RECORD, "stage_cpu_s": stages, "process_cpu_s": run_s / 2}

    sink = WebPreviewSink("127.0.0.1", port, "roof", record)
    sink.start()

    def show() -> None:
        planes = {level: np.full((48, 64), level, np.uint8) for level in (50, 120, 200)}
        index = 0
        while not camera.wait(0.05):
            at_ns = index * 40 * MS
            visible = frame(Band.VISIBLE, index, at_ns, pixels=planes[50])
            infrared = frame(Band.INFRARED, index, at_ns, pixels=planes[200])
            pair = FramePair(index, PairState.FUSED, Band.VISIBLE, infrared, visible, SKEW_NS, luma=Plane(planes[200]))
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
    """Of the badge that says `fused`, in the light theme."""
    return int(np.all(np.abs(pixels[:60].astype(int) - (0x47, 0x7F, 0x1A)) <= 3, axis=2).sum())


def share(pixels: np.ndarray, level: int) -> float:
    return float(np.all(np.abs(pixels.astype(int) - level) <= 2, axis=2).mean())


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_shows_the_video_and_the_statistics(width: int, tmp_path: Path, page: str) -> None:
    async def look(tab: Tab) -> None:
        await tab.size(width, 1000)
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'fused'")
        await tab.until("document.getElementById('live').naturalWidth === 64")
        await tab.until("!document.getElementById('skew-now').textContent.includes('–')")
        assert await tab.value("document.getElementById('skew-now').textContent") == "-1.11, of -1.11 to -1.11"
        assert "pip install 'fusepipe[webrtc]'" in await tab.value("document.getElementById('hint').textContent")
        assert await tab.value("document.getElementById('video').hidden")
        assert "11" in await tab.value("document.getElementById('main').textContent")
        parts = await tab.value("document.getElementById('parts').textContent")
        assert "visible640×480 h264 25 fps" in parts and "ok, 0.6 px off" in parts
        assert "rtcp, -12.5 ppm, jitter 0.8 ms" in parts and "connections to visible2, 1× timeout" in parts
        await tab.until("/pair2[3-7]\\.\\d %1/.test(document.getElementById('stages').textContent)")
        stages = await tab.value("document.getElementById('stages').textContent")
        assert "rtsp://127.0.0.1:8554/roof (down)0.0 %23" in stages, "CPU time, 2 waiting, 3 dropped"
        assert re.search(r"pair.*fuse.*roof.*watch", stages), "as frames pass them"
        assert re.search(r"process total, including engine(4[6-9]|5[0-4])\.\d %", stages), stages
        counts = await tab.value("document.getElementById('counts').textContent")
        assert "failed 2×, restarted 1×, missed 40 frames" in counts
        assert "<b>a warning</b>" in await tab.value("document.getElementById('warnings').textContent"), (
            "text, not HTML"
        )
        assert await tab.value("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
        fused = cv2.imread(str(await tab.screenshot(tmp_path / "fused.png")))
        assert green_px(fused) > 300 and share(fused, 120) > 0.1
        await tab.value("document.querySelector('[data-view=side-by-side]').click()")
        await tab.until("document.getElementById('live').naturalWidth === 128")
        assert "view=side-by-side" in await tab.value("document.getElementById('snapshot').href")
        side = cv2.imread(str(await tab.screenshot(tmp_path / "side.png")))
        assert share(side, 50) > 0.04 and share(side, 200) > 0.04
        await tab.value("document.querySelector('[data-view=wipe]').click()")
        assert not await tab.value("document.getElementById('wipe').hidden")
        hidden = "document.querySelector('[data-key={}]').closest('label').hidden"
        assert await tab.value(hidden.format("colour")) and await tab.value(hidden.format("percentile"))
        for key, value in (("palette", "inferno"), ("hot", "tint"), ("percentile", "95")):
            await tab.value(f"document.querySelector('[data-key={key}]').value = '{value}'")
            await tab.value(
                f"document.querySelector('[data-key={key}]').dispatchEvent(new Event('change', {{bubbles: true}}))"
            )
        await tab.value("document.querySelector('[data-note=state]').click()")
        chosen = "view=wipe&palette=inferno&hot=tint&percentile=95&annotate=state&wipe=50"
        await tab.until(f"document.getElementById('snapshot').href.endsWith('?{chosen}')")
        await tab.until(f"document.getElementById('live').src.endsWith('?{chosen}')")
        assert await tab.value(hidden.format("isotherms")), "without a radiometry there are no temperatures"
        assert await tab.value("document.documentElement.scrollWidth") <= width

    browse(tmp_path / "profile", look)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_why_a_rig_is_too_slow_is_above_the_video(
    width: int, tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "too slow: 3.0 of 30.0 frames per second"
    monkeypatch.setitem(RECORD, "status", {"state": "degraded", "reasons": [reason]})
    monkeypatch.setitem(RECORD, "overload", {"message": reason})
    monkeypatch.setitem(RECORD, "sinks", [{"sink": "fused.mkv", "up": True, "frames": 9}])
    monkeypatch.setitem(RECORD, "recent", {"paired_per_s": 30.0, "sinks": [{"frames_per_s": 3.0}]})

    async def look(tab: Tab) -> None:
        await tab.size(width, 1000)
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'too slow'")
        assert await tab.value("document.getElementById('alerts').textContent") == reason
        top = "document.getElementById('{}').getBoundingClientRect().top"
        assert await tab.value(top.format("alerts")) < await tab.value(top.format("live"))
        assert "3.0 of 30.0" in await tab.value("document.getElementById('main').textContent")
        seen.append(reason)

    seen: list[str] = []
    browse(tmp_path / "profile", look)
    assert seen == [reason]


@pytest.mark.slow
def test_the_list_of_rigs_names_those_that_have_failed(tmp_path: Path, page: str) -> None:
    failed = RigStatus(RigState.FAILED, ("authentication failed",))
    yard = PreviewStatus("127.0.0.1", urlsplit(page).port or 0, "yard", lambda: failed)

    async def look(tab: Tab) -> None:
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'failed'")
        await tab.until("document.getElementById('rig').textContent === 'yard (failed)roof'")
        await tab.until("document.getElementById('live').alt === ''")
        await tab.screenshot(tmp_path / "failed.png")
        await tab.value("(() => { rigs.value = 'roof'; rigs.dispatchEvent(new Event('change')); })()")
        await tab.until("document.getElementById('live').naturalWidth === 64")
        await tab.until("document.getElementById('live').alt === 'Live video'")
        seen.append("roof")

    seen: list[str] = []
    try:
        browse(tmp_path / "profile", look)
    finally:
        yard.close()
    assert seen == ["roof"]


@pytest.mark.slow
def test_a_browser_reports_when_the_video_stops(
    tmp_path: Path, page: str, camera: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusepipe.pipeline.servers.web.rig_view.READY_S", 0.5)

    async def look(tab: Tab) -> None:
        await tab.open(page)
        await tab.until("document.getElementById('state').textContent === 'fused'")
        camera.set()
        await tab.until("document.getElementById('state').textContent === 'no video'")
        seen.append("no video")

    seen: list[str] = []
    browse(tmp_path / "profile", look)
    assert seen == ["no video"]
