"""What one more pair costs a run: no stage allocates an image, and none copies a plane more than once."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import pytest

from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.buffers import COUNTED
from fusepipe.core.frames import Band, Frame, FramePair, FusedFrame, PairState
from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.load import read_onnx
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.sinks.null import NullSink
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.pipeline.testing import MS, frame
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.from_options import rig_from_options
from fusepipe.workflows.bench.clips import render_clips

VISIBLE, INFRARED = (640, 480), (320, 240)
WARM_UP, MEASURED = 5, 4
T = TypeVar("T")


def border_warp(infrared: tuple[int, int], visible: tuple[int, int]) -> RemapWarp:
    """The infrared camera sees most of the visible image, so that there is a border to blend; nothing is halved."""
    scale = 0.9 * visible[0] / infrared[0]
    matrix = np.array([[scale, 0, 0.05 * visible[0]], [0, scale, 0.05 * visible[1]], [0, 0, 1]])
    return RemapWarp(matrix, infrared, visible)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    render_clips(folder, VISIBLE, INFRARED, WARM_UP + MEASURED, 60)
    return folder


@pytest.fixture(scope="module")
def pairs(clips: Path) -> Callable[[], Iterator[FramePair]]:
    def decoded() -> Iterator[FramePair]:
        sources = [VideoFileSource(clips / f"{band}.mkv", band) for band in (Band.INFRARED, Band.VISIBLE)]
        for source in sources:
            source.open()
        never = threading.Event()
        for infrared, visible in zip(*(source.frames(never) for source in sources), strict=True):
            assert isinstance(infrared, Frame) and isinstance(visible, Frame)
            yield FramePair(visible.index, PairState.FUSED, Band.VISIBLE, infrared, visible, 0)
        for source in sources:
            source.close()

    return decoded


class Meter:
    """The bytes that Python and NumPy allocate in each stage beyond what was there before it, at most."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()

    def __call__(self, stage: str, work: Callable[[], T]) -> T:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        done = work()
        _, peak = tracemalloc.get_traced_memory()
        self.most[stage] = max(self.most[stage], peak - before)
        return done


def fused(step: FusionStep, pair: FramePair) -> FusedFrame:
    step.submit(pair)
    return step.finish()


@pytest.mark.skipif(not COUNTED, reason="this Python does not count references at once")
@pytest.mark.parametrize("model", ["stream", "mean"])
def test_a_further_pair_allocates_no_image(
    pairs: Callable[[], Iterator[FramePair]], tmp_path: Path, model: str
) -> None:
    registration, tone_map = Registration(border_warp, VISIBLE), ToneMap(None, lambda message: None)
    sink = VideoSink(tmp_path / "out.mkv", VideoOptions(preset="ultrafast"), fps=25)
    meter, encoded = Meter(), []
    with load_fuser(model) as fuser:
        step = FusionStep(fuser)
        stream = pairs()
        tracemalloc.start(1)
        try:
            for index in range(WARM_UP + MEASURED):
                if index == WARM_UP:
                    meter = Meter()
                pair = meter("decode", lambda: next(stream))
                registered = meter("register", lambda pair=pair: tone_map(registration(pair)))
                output = meter("fuse", lambda pair=registered: fused(step, pair))
                meter("encode", lambda output=output: sink.write(output))
                assert pair.visible is not None
                assert output.planes[1:] == pair.visible.chroma, "the very same planes, without a copy"
                encoded.append(np.array(output.planes[0].pixels))
                del pair, registered, output
        finally:
            tracemalloc.stop()
        step.close()
    sink.close()
    own = {"fuse"} if model == "mean" else set()  # a plain function returns a new image
    infrared_bytes = INFRARED[0] * INFRARED[1]
    assert {stage for stage, most in meter.most.items() if most > infrared_bytes // 2} == own, meter.most
    assert len({image.tobytes() for image in encoded}) == len(encoded), "each frame has its own image"


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "h264"), ("b.mkv", "ffv1"), ("c.webm", "vp9")])
def test_encoders_have_read_a_frame_when_its_memory_is_used_for_the_next(tmp_path: Path, name: str, codec: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64), np.uint8) for _ in range(12)]
    sink = VideoSink(tmp_path / name, VideoOptions(codec=codec, crf=0, preset="medium"), fps=25)
    for index, image in enumerate(images):
        visible = frame(Band.VISIBLE, index, index * 40 * MS, pixels=image)
        pair = FramePair(index, PairState.SINGLE, Band.VISIBLE, None, visible)
        sink.write(
            FusedFrame(
                pair, visible.planes, PairState.SINGLE, index, visible.capture_ns, visible.pts, visible.time_base
            )
        )
    sink.close()
    with av.open(str(tmp_path / name)) as container:
        decoded = [av_frame.to_ndarray()[:48, :64] for av_frame in container.decode(video=0)]
    assert len(decoded) == len(images)
    assert all(map(np.array_equal, decoded, images))


def test_the_engine_is_compiled_once_where_the_infrared_image_is_registered_at_its_own_scale(
    clips: Path, tmp_path: Path
) -> None:
    rig = rig_from_options(
        {
            "name": "once",
            "infrared": {"url": str(clips / "infrared.mkv")},
            "visible": {"url": str(clips / "visible.mkv")},
            "sinks": [],
        }
    )
    fuser = OpenVinoFuser("stream", read_onnx("stream"), "fp32", cache=CompileCache(tmp_path))
    Pipeline(rig, sinks=[NullSink()], fuser=fuser, max_pairs=1).run()
    assert len(list(tmp_path.glob("*.blob"))) == 1
