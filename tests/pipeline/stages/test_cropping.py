"""``registration.outside: crop``: the largest part that both cameras see, cut the same way out of every plane."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fusepipe.calibration.common_view import Rectangle, common_view
from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.calibration.warp import RemapWarp
from fusepipe.config.schema import Rig
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.pipeline.stages.cropping import CommonViewCrop
from fusepipe.pipeline.testing import CollectSink
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser


def mask(width: int, height: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    made = np.zeros((height, width), np.uint8)
    made[top:bottom, left:right] = 255
    return made


def test_an_upright_view_is_kept_whole_but_for_odd_borders() -> None:
    assert common_view(mask(640, 480, 100, 60, 500, 400), (640, 480)) == Rectangle(100, 60, 400, 340)
    assert common_view(mask(640, 480, 101, 61, 500, 401), (640, 480)) == Rectangle(102, 62, 398, 338)
    assert common_view(None, (641, 481)).size == (641, 481)
    assert common_view(np.full((480, 640), 255, np.uint8), (640, 480)).size == (640, 480)


def test_a_turned_view_gives_the_largest_rectangle() -> None:
    """Against every rectangle of even sides there is."""
    y, x = np.mgrid[0:60, 0:80]
    seen = (np.abs((x - 40) * 0.9 + (y - 30) * 0.3) < 26) & (np.abs((y - 30) * 0.9 - (x - 40) * 0.3) < 20)
    found = common_view(seen.astype(np.uint8) * np.uint8(255), (80, 60))
    assert seen[found.top : found.top + found.height, found.left : found.left + found.width].all()
    total = np.pad(seen.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    best = 0
    for top in range(0, 60, 2):
        for bottom in range(top + 2, 61, 2):
            for left in range(0, 80, 2):
                for right in range(left + 2, 81, 2):
                    area = (bottom - top) * (right - left)
                    if area > best:
                        inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
                        best = area if inside == area else best
    assert found.width * found.height == best


def test_a_common_view_that_is_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="common field of view is 10x200 of 640x480 pixels"):
        common_view(mask(640, 480, 0, 0, 11, 200), (640, 480))
    with pytest.raises(UsageError, match="common field of view is 0x0 of 640x480 pixels"):
        common_view(mask(640, 480, 0, 0, 1, 1), (640, 480))


def frame(band: Band, *planes: np.ndarray) -> Frame:
    return Frame(band, tuple(Plane(p) for p in planes), 0, 0, 0, Fraction(1, 1000))


def test_every_plane_is_cut_at_the_same_place() -> None:
    """Luma and 4:2:0 chroma, the registered plane, the mask; a frame that is alone too."""
    luma = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    chroma = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    warp = RemapWarp(np.array([[1.0, 0, 8], [0, 1, 4], [0, 0, 1]]), (49, 41), (64, 48))
    crop = CommonViewCrop(lambda size: Rectangle(8, 4, 40, 32))
    visible = Frame(Band.VISIBLE, (Plane(luma, 12), Plane(chroma), Plane(chroma)), 0, 0, 0, Fraction(1))
    pair = FramePair(
        0,
        PairState.FUSED,
        Band.VISIBLE,
        frame(Band.INFRARED, np.zeros((41, 49), np.uint8)),
        visible,
        warp=warp,
        registered=Plane(luma, 12),
    )
    cut = crop(pair)
    assert cut.visible is not None and cut.registered is not None and cut.warp is not None
    assert np.array_equal(cut.visible.luma.pixels, luma[4:36, 8:48])
    assert np.array_equal(cut.registered.pixels, luma[4:36, 8:48])
    assert [p.pixels.tolist() for p in cut.visible.chroma] == [chroma[2:18, 4:24].tolist()] * 2
    assert cut.warp.valid is None and cut.warp.version != warp.version
    assert crop(pair).warp is cut.warp  # made once
    assert cut.warp.apply(np.ones((41, 49), np.uint8)).shape == (32, 40)
    alone = crop(replace(pair, infrared=None, warp=None, registered=None))
    assert alone.visible is not None and (alone.visible.width, alone.visible.height) == (40, 32)


def run(folder: Path, outside: str, **registration: object) -> CollectSink:
    matrix = np.array([[1.5, 0, 80.0], [0, 1.5, 50.0], [0, 0, 1]])  # 320x240 onto the middle of 640x480
    calibration = folder / "rig.yaml"
    if not calibration.exists():
        save_calibration(make_calibration("affine", (320, 240), (640, 480), matrix), calibration)
    rig = Rig.model_validate(
        {
            "name": "cropped",
            "infrared": {"url": "synthetic://street?band=infrared&size=320x240&duration=200ms"},
            "visible": {"url": "synthetic://street?band=visible&size=640x480&duration=200ms"},
            "registration": {"calibration": str(calibration), "outside": outside, **registration},
        }
    )
    sink = CollectSink()
    report = Pipeline(rig, sinks=[sink], fuser=load_fuser("mean")).run()
    assert ("cropped to 478x358 of 640x480" in report.registration) == (outside == "crop")
    return sink


def test_a_run_is_cropped_to_the_common_view(tmp_path: Path) -> None:
    whole, cropped = run(tmp_path, "visible"), run(tmp_path, "crop", drift="watch")
    assert {(f.width, f.height) for f in whole.frames} == {(640, 480)}
    assert {(f.width, f.height) for f in cropped.frames} == {(478, 358)}
    assert len(whole.frames) == len(cropped.frames) == 5
    # away from the fade at the border of the infrared view, both are the same image
    part = whole.frames[2].planes[0].pixels[50:408, 80:558]
    assert np.array_equal(part[60:-60, 60:-60], cropped.frames[2].planes[0].pixels[60:-60, 60:-60])
    assert [p.pixels.shape for p in cropped.frames[0].planes[1:]] == [(179, 239)] * 2
