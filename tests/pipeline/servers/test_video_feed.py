"""The video of the preview page: what is encoded, for whom, and at what times."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import av
import numpy as np
import pytest

from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.pipeline.encoding.h264 import PPS, SPS, AccessUnit, nal_type
from fusepipe.pipeline.encoding.live_encoder import LiveEncoder
from fusepipe.pipeline.servers.delivery import LIMIT_BYTES, PATIENCE_NS
from fusepipe.pipeline.servers.loop_thread import LoopThread
from fusepipe.pipeline.servers.web.rig_view import RigView
from fusepipe.pipeline.servers.web.video_feed import VideoFeed, Viewer, downscaled, min_interval_s
from fusepipe.pipeline.testing import MS, frame


def fused_frame(index: int, shape: tuple[int, int] = (48, 64), *, level: int = 120, colour: bool = False) -> FusedFrame:
    pixels = np.full(shape, level, np.uint8)
    visible = frame(Band.VISIBLE, index, index * 40 * MS, pixels=pixels, chroma=colour)
    pair = FramePair(index, PairState.SINGLE, Band.VISIBLE, None, visible)
    planes = (Plane(pixels), *visible.chroma)
    return FusedFrame(pair, planes, PairState.SINGLE, index, visible.capture_ns, visible.pts, visible.time_base)


def unit(*, key: bool, size_bytes: int = 100) -> AccessUnit:
    return AccessUnit((b"\x65" * size_bytes,), key, 0)


# -- one viewer


def viewer_with(backlog: list[int]) -> Viewer:
    viewer = Viewer(lambda: backlog[0])
    viewer.connected.set()
    return viewer


def test_a_viewer_gets_nothing_before_it_is_connected_and_begins_with_a_key_frame():
    async def script():
        viewer = Viewer(lambda: 0)
        viewer.offer(unit(key=True), 1, 0)
        assert not viewer.wants_key
        viewer.connected.set()
        assert viewer.wants_key
        viewer.offer(unit(key=False), 2, 0)
        viewer.offer(unit(key=True), 3, 0)
        viewer.offer(unit(key=False), 4, 0)
        assert not viewer.wants_key
        assert [(await viewer.next())[1] for _ in range(2)] == [3, 4]
        viewer.request_key()
        assert viewer.wants_key
        viewer.offer(unit(key=True), 5, 0)
        assert not viewer.wants_key

    asyncio.run(script())


def test_the_queue_is_flushed_when_a_link_becomes_slow():
    async def script():
        viewer = viewer_with([0])
        for pts in range(10):
            viewer.offer(unit(key=not pts), pts, 0)
        viewer.link.rate_bps = 8.0 * unit(key=False).size_bytes  # of which one takes a second
        viewer.offer(unit(key=False), 10, 0)
        assert viewer.wants_key
        viewer.offer(unit(key=True), 11, 0)
        viewer.offer(unit(key=False), 12, 0)
        viewer.offer(unit(key=True), 13, 10**9)
        assert (await viewer.next())[1] == 11

    asyncio.run(script())


def test_a_stalled_viewer_is_skipped_and_then_disconnected():
    async def script():
        backlog = [0]
        viewer = viewer_with(backlog)
        viewer.offer(unit(key=True), 1, 0)
        await viewer.next()
        backlog[0] = LIMIT_BYTES + 1
        viewer.offer(unit(key=True), 2, MS)
        backlog[0] = 0
        viewer.offer(unit(key=False), 3, 2 * MS)  # refers to what was left out
        assert viewer.wants_key
        viewer.offer(unit(key=True), 4, 3 * MS)
        assert (await viewer.next())[1] == 4
        backlog[0] = LIMIT_BYTES + 1
        for at_ns in (0, PATIENCE_NS // 2, PATIENCE_NS):
            viewer.offer(unit(key=True), 5, 4 * MS + at_ns)
        assert viewer.ended.is_set()

    asyncio.run(script())


def test_a_queue_that_is_not_drained_stays_bounded():
    async def script():
        viewer = viewer_with([0])
        for index in range(1000):
            viewer.offer(unit(key=index % 10 == 0, size_bytes=10_000), index, index * MS)
        assert viewer.queued_bytes <= LIMIT_BYTES + 10_000

    asyncio.run(script())


def test_a_viewer_on_a_slow_link_gets_key_frames_within_the_capacity_of_the_link():
    async def script():
        viewer = viewer_with([0])
        viewer.link.rate_bps = 160_000  # 20 kB a second
        got, left_bytes, sending = [], 0.0, None  # sending: taken from the queue, waiting for the link
        for index in range(200):  # 25 a second: a key frame of 10 kB whenever one is wanted, else 2 kB
            key = viewer.wants_key
            viewer.offer(unit(key=key, size_bytes=10_000 if key else 2_000), index, index * 40 * MS)
            left_bytes += 20_000 * 0.04
            while sending or viewer.queued_bytes:
                sending = sending or await viewer.next()
                if sending[0].size_bytes > left_bytes:
                    break
                left_bytes -= sending[0].size_bytes
                got.append(sending)
                sending = None
            left_bytes = left_bytes if sending else 0.0
            assert viewer.queued_bytes <= 30_000, "one second of the link, and one frame"
        assert sum(u.size_bytes for u, _ in got) == pytest.approx(20_000 * 8, rel=0.2)
        assert sum(u.key for u, _ in got) >= 4, "sending resumes on a key frame"
        for (_, before), (after, at) in pairwise(got):
            assert after.key or at == before + 1, "no frame refers to a dropped one"

    asyncio.run(script())


# -- the feed


class Feeding:
    """A feed in a loop of its own, as the server has it; ``units`` is what each viewer got, with its time."""

    def __init__(self, *, live: bool = True, viewers: int = 1) -> None:
        self.thread = LoopThread("feed")
        self.executor = ThreadPoolExecutor(1)
        self.rig = RigView("roof", self.thread, dict, 4, live=live)
        self.count = viewers
        self.units: list[list[tuple[AccessUnit, int]]] = [[] for _ in range(viewers)]

    def __enter__(self) -> "Feeding":
        self.thread.start()
        self.thread.call(self._join(), 10)
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.call(self._leave(), 10)
        self.thread.stop()
        self.executor.shutdown()

    async def _join(self) -> None:
        self.feed = VideoFeed(self.rig, self.executor)
        self.viewers = [Viewer(lambda: 0) for _ in range(self.count)]
        self.tasks = [asyncio.create_task(self._take(v, got)) for v, got in zip(self.viewers, self.units, strict=True)]
        for viewer in self.viewers:
            self.feed.join(viewer)

    async def _take(self, viewer: Viewer, got: list[tuple[AccessUnit, int]]) -> None:
        while True:
            got.append(await viewer.next())

    async def _leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        for viewer in self.viewers:
            self.feed.leave(viewer)

    async def _connect(self) -> None:
        for viewer in self.viewers:
            self.feed.connected(viewer)

    def connect(self) -> None:
        self.thread.call(self._connect(), 10)

    def show(self, shot: FusedFrame) -> None:
        """Shows a frame and waits until all viewers have it."""
        before = [len(got) for got in self.units]
        self.rig.show(shot)
        self.wait(lambda: all(len(got) > n for got, n in zip(self.units, before, strict=True)))

    @staticmethod
    def wait(condition, timeout_s: float = 20.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "did not happen in time"
            time.sleep(0.01)


def test_frames_are_encoded_once_and_only_while_there_are_viewers(monkeypatch):
    encoded = []
    encode = LiveEncoder.encode

    def counted(self, shot, **options):
        encoded.append(shot.index)
        return encode(self, shot, **options)

    monkeypatch.setattr(LiveEncoder, "encode", counted)
    with Feeding(viewers=3) as feeding:
        for index in range(5):
            feeding.rig.show(fused_frame(index))
        time.sleep(0.2)
        assert encoded == []
        feeding.connect()  # the newest frame is already available
        feeding.wait(lambda: all(feeding.units))
        for index in range(5, 8):
            feeding.show(fused_frame(index))
        assert encoded == [4, 5, 6, 7]
        assert feeding.units[0] == feeding.units[1] == feeding.units[2]
        assert [u.key for u, _ in feeding.units[0]] == [True, False, False, False]


def test_the_profile_is_mandatory_for_browsers():
    with Feeding() as feeding:
        feeding.connect()
        feeding.show(fused_frame(0, (1080, 1920), level=50, colour=True))
        (first, _) = feeding.units[0][0]
    sps = next(nal for nal in first.nals if nal_type(nal) == SPS)
    assert any(nal_type(nal) == PPS for nal in first.nals)
    assert sps[1] == 66 and sps[2] & 0x40, "constrained baseline"
    assert sps[3] <= 31, "level 3.1"
    decoder = av.CodecContext.create("h264", "r")
    (shown,) = [*decoder.decode(av.Packet(first.annex_b())), *decoder.decode(None)]
    assert (shown.width, shown.height) == (1280, 720)
    luma = np.frombuffer(shown.planes[0], np.uint8).reshape(720, -1)[:, :1280]
    assert abs(int(luma.mean()) - 50) <= 1
    assert int(shown.color_range) == 2, "full range, like the frame"


def test_times_are_those_of_capture_for_cameras_and_of_arrival_for_recordings():
    with Feeding(live=True) as feeding:
        feeding.connect()
        for index in (0, 3, 10):
            feeding.show(fused_frame(index))
        assert [pts for _, pts in feeding.units[0]] == [0, 3 * 3600, 10 * 3600]  # 40 ms are 3600 ticks
        feeding.show(fused_frame(2))
        assert feeding.units[0][-1][1] == 10 * 3600 + 1, "they never go back"
    with Feeding(live=False) as feeding:
        feeding.connect()
        begun_s = time.monotonic()
        feeding.show(fused_frame(0))
        feeding.show(fused_frame(10**6))
        (first, second) = (pts for _, pts in feeding.units[0])
        assert 0 < second - first <= (time.monotonic() - begun_s) * 90_000


def test_a_viewer_that_asks_gets_a_key_frame_but_not_all_the_time():
    with Feeding() as feeding:
        feeding.connect()
        begun_s = time.monotonic()
        feeding.show(fused_frame(0))
        for index in range(1, 40):
            feeding.thread.post(feeding.viewers[0].request_key)
            feeding.show(fused_frame(index))
        elapsed_s = time.monotonic() - begun_s
        keys = sum(u.key for u, _ in feeding.units[0])
    assert 2 <= keys <= 2 + elapsed_s / 0.25, "at most four a second"


def test_the_end_of_the_rig_is_the_end_of_the_viewing():
    with Feeding() as feeding:
        feeding.connect()
        feeding.show(fused_frame(0))
        assert not feeding.viewers[0].ended.is_set()
        feeding.thread.post(feeding.rig.end)
        feeding.wait(feeding.viewers[0].ended.is_set)
        assert feeding.viewers[0].ended.is_set()


def test_an_encoder_that_fails_ends_the_viewing_and_nothing_else(monkeypatch, caplog):
    from fusepipe.core.errors import SinkError

    def fails(self, shot, **options):
        raise SinkError("encoder libx264 failed: out of luck")

    monkeypatch.setattr(LiveEncoder, "encode", fails)
    with Feeding() as feeding:
        feeding.connect()
        feeding.rig.show(fused_frame(0))
        feeding.wait(feeding.viewers[0].ended.is_set)
        assert "preview video stopped: encoder libx264 failed" in caplog.text


@pytest.mark.parametrize(
    ("shape", "size"),
    [((480, 640), (640, 480)), ((720, 1280), (1280, 720)), ((1080, 1920), (1280, 720)), ((960, 1280), (960, 720))],
)
def test_large_frames_are_downscaled(shape, size):
    small = downscaled(fused_frame(0, shape, colour=True))
    assert (small.width, small.height) == size
    assert [p.pixels.shape for p in small.planes[1:]] == [((size[1] + 1) // 2, (size[0] + 1) // 2)] * 2


def test_a_narrow_frame_keeps_two_pixels():
    assert downscaled(fused_frame(0, (4000, 3))).width == 2


def test_the_frame_rate_is_limited_by_the_level():
    assert min_interval_s(1280, 720) == pytest.approx(1 / 30)
    assert min_interval_s(640, 480) == pytest.approx(1 / 60)
