"""What one more pair costs in memory, stage by stage, as ``fusepipe bench`` counts it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusepipe.core.buffers import COUNTED
from fusepipe.core.frames import FramePair
from fusepipe.pipeline.sinks.files.video import VideoOptions
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.workflows.bench.clips import Clips, render_clips
from fusepipe.workflows.bench.copies import MEASURED, WARM_UP, StageMemory, count_copies

VISIBLE, INFRARED = (640, 480), (320, 240)
PLANE_KIB = INFRARED[0] * INFRARED[1] / 1024


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return render_clips(tmp_path_factory.mktemp("clips"), VISIBLE, INFRARED, WARM_UP + MEASURED, 60)


def counted(clips: Clips, output: Path) -> dict[str, StageMemory]:
    with load_fuser("stream") as fuser:
        return {stage.stage: stage for stage in count_copies(clips, fuser, VideoOptions(preset="ultrafast"), output)}


@pytest.mark.skipif(not COUNTED, reason="this Python does not count references at once")
def test_a_stage_allocates_no_plane_and_writes_one(clips: Clips, tmp_path: Path) -> None:
    """Decoded planes are FFmpeg's; registration writes the infrared luma, fusion the fused one; chroma is passed on."""
    found = counted(clips, tmp_path / "out.mkv")
    assert {name: (stage.planes, stage.written) for name, stage in found.items()} == {
        "decode": (4, 0),
        "register": (4, 1),
        "fuse": (3, 1),
        "encode": (3, None),
    }
    assert {name for name, stage in found.items() if stage.allocated_kib > PLANE_KIB / 2} == set()
    assert not tracemalloc.is_tracing()


def test_a_stage_that_copies_its_images_is_found(clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = ToneMap.__call__

    def copying(self: ToneMap, pair: FramePair) -> FramePair:
        pair = apply(self, pair)
        assert pair.visible is not None
        planes = tuple(replace(plane, pixels=np.array(plane.pixels)) for plane in pair.visible.planes)
        return replace(pair, visible=replace(pair.visible, planes=planes))

    monkeypatch.setattr(ToneMap, "__call__", copying)
    found = counted(clips, tmp_path / "out.mkv")
    assert found["register"].written == 4
    assert found["register"].allocated_kib > VISIBLE[0] * VISIBLE[1] * 1.5 / 1024
