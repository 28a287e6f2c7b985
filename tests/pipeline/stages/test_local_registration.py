"""Local alignment in the registration stage: two planes, steadiness, and when it keeps out."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fusepipe.calibration.parallax.local_alignment import Displacement, Float32Array, LocalAlignment
from fusepipe.calibration.parallax.plane_parallax import plane_displacement
from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.stages.local_registration import LocalRegistration, Planes
from fusepipe.pipeline.stages.registration import Registration, Size
from fusepipe.pipeline.testing import frame
from tests.helpers.two_planes import NEAR_M, SIZE, TRUE_MATRIX, TwoPlanes, far_core, near_core, parallax_px

STEP_NS = 80_000_000
POSITIONS = np.tile(np.arange(SIZE[0], dtype=np.float32), (SIZE[1], 1))


def wall(infrared: Size, visible: Size) -> RemapWarp:
    return RemapWarp(TRUE_MATRIX, infrared, visible, whole_view=True)


def pair_at(scene: TwoPlanes, moment: int, state: PairState = PairState.FUSED) -> FramePair:
    time_ns = moment * STEP_NS
    infrared = frame(Band.INFRARED, moment, time_ns, pixels=scene.infrared(moment))
    return FramePair(
        moment, state, Band.VISIBLE, infrared, frame(Band.VISIBLE, moment, time_ns, pixels=scene.visible(moment)), 0
    )


def shifts(local: LocalRegistration) -> NDArray[np.float32]:
    """HxW: how far to the right of each visible pixel the stage samples, from an image of positions."""
    ramp = cv2.resize(POSITIONS, (320, 240), interpolation=cv2.INTER_AREA)
    counts = np.asarray(np.rint(ramp * 100), np.uint16)
    moved = replace(pair_at(TwoPlanes(), 0, PairState.HELD))
    assert moved.infrared is not None
    plane = replace(moved.infrared.luma, pixels=counts, bit_depth=16)
    moved = replace(moved, infrared=replace(moved.infrared, planes=(plane,)))
    registered = local.apply(moved, wall((320, 240), SIZE), SIZE[0])
    return np.asarray(registered / 100.0 - POSITIONS, np.float32)


def watched(scene: TwoPlanes, count: int, local: LocalRegistration) -> list[NDArray[np.float32]]:
    stage, seen = Registration(wall, SIZE, local=local), []
    for moment in range(count):
        stage(pair_at(scene, moment))
        seen.append(shifts(local))
    return seen


def test_planes_at_5_and_40_m_are_both_aligned_and_steady() -> None:
    seen = watched(TwoPlanes(), 14, LocalRegistration())
    near, far = near_core(), far_core()
    assert parallax_px(NEAR_M) > 6  # what the object is off by without
    assert np.median(np.abs(seen[-1][near] - parallax_px(NEAR_M))) < 1
    assert np.median(np.abs(seen[-1][far])) < 1
    jitter = np.stack(seen[6:]).std(axis=0)
    assert jitter[near | far].max() < 0.2


def test_a_steady_scene_is_compared_half_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    see = LocalAlignment.see

    def counted(self: LocalAlignment, visible: Float32Array) -> bool:
        compared.append(len(compared))
        return see(self, visible)

    monkeypatch.setattr(LocalAlignment, "see", counted)
    local = LocalRegistration()
    stage = Registration(wall, SIZE, local=local)
    pair = pair_at(TwoPlanes(), 0)  # the same images again and again
    counts = []
    for index in range(40):
        at_ns = index * STEP_NS // 2
        assert pair.infrared is not None and pair.visible is not None
        stage(
            replace(
                pair,
                infrared=replace(pair.infrared, capture_ns=at_ns),
                visible=replace(pair.visible, capture_ns=at_ns),
            )
        )
        counts.append(len(compared))
    assert counts[2] == 2, "every second pair of 25 a second while the field settles"
    assert counts[-1] - counts[-13] == 4, "every third one afterwards"


def test_what_agrees_already_is_left_alone() -> None:
    seen = watched(TwoPlanes(near_m=40.0), 4, LocalRegistration())
    off = np.abs(seen[-1][far_core() | near_core()])
    assert np.median(off) < 0.3 and off.max() < 1


def test_the_limit_bounds_the_displacement() -> None:
    seen = watched(TwoPlanes(), 6, LocalRegistration(limit_px=2.0))
    assert 1.5 < np.median(seen[-1][near_core()]) < 2.1
    assert np.abs(seen[-1][far_core() | near_core()]).max() < 2.2


def test_images_that_have_nothing_in_common_are_not_moved() -> None:
    visible, infrared = TwoPlanes(seeds=(3, 4)), TwoPlanes(seeds=(7, 8))
    local = LocalRegistration()
    stage = Registration(wall, SIZE, local=local)
    for moment in range(4):
        turned = np.ascontiguousarray(infrared.infrared(moment)[::-1, ::-1])
        stage(replace(pair_at(visible, moment), infrared=frame(Band.INFRARED, moment, moment * STEP_NS, pixels=turned)))
    off = np.abs(shifts(local)[far_core() | near_core()])
    assert np.percentile(off, 90) < 1


def test_another_scene_starts_afresh() -> None:
    local = LocalRegistration()
    watched(TwoPlanes(), 4, local)
    stage = Registration(wall, SIZE, local=local)
    stage(pair_at(TwoPlanes(near_m=40.0, seeds=(5, 6)), 4))
    assert np.median(np.abs(shifts(local)[near_core()])) < 0.5


def test_held_pairs_are_moved_but_not_compared() -> None:
    local = LocalRegistration()
    stage = Registration(wall, SIZE, local=local)
    made = stage(pair_at(TwoPlanes(), 0, PairState.HELD))
    plain = Registration(wall, SIZE)(pair_at(TwoPlanes(), 0, PairState.HELD))
    assert made.registered is not None and plain.registered is not None
    assert np.array_equal(made.registered.pixels, plain.registered.pixels)
    assert made.warp is not None


def test_images_without_a_warp_are_moved_too() -> None:
    def none(infrared: Size, visible: Size) -> None:
        return None

    stage = Registration(none, SIZE, local=LocalRegistration())
    scene = TwoPlanes()
    found = None
    for moment in range(5):
        pair = pair_at(scene, moment)
        assert pair.infrared is not None
        large = np.asarray(cv2.resize(pair.infrared.luma.pixels, SIZE), np.uint8)
        whole = frame(Band.INFRARED, moment, moment * STEP_NS, pixels=large)
        found = stage(replace(pair, infrared=whole))
    assert found is not None and found.registered is not None and found.warp is None and found.infrared is not None
    near = near_core()
    aligned = 255 - 0.6 * TwoPlanes(noise=0.0).visible(0).astype(np.float32)
    before = np.abs(found.infrared.luma.pixels - aligned)[near].mean()
    after = np.abs(found.registered.pixels - aligned)[near].mean()
    assert after < 0.6 * before


def test_an_engine_that_warps_cannot_be_moved_locally() -> None:
    with pytest.raises(ValueError, match="apply"):
        Registration(wall, SIZE, apply=False, local=LocalRegistration())


def planes_at(near_m: float) -> Planes:
    """The displacement of an object at a distance, as from a calibration with its plane."""

    def displacements(infrared: Size, visible: Size) -> list[Displacement]:
        there = np.diag([visible[0] / SIZE[0], visible[1] / SIZE[1], 1.0])
        moved = np.array([[1.0, 0.0, -parallax_px(near_m)], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        own, near = (RemapWarp(m @ TRUE_MATRIX, infrared, visible, whole_view=True) for m in (there, there @ moved))
        return [plane_displacement(own, near)]

    return displacements


def test_an_object_beyond_the_limit_is_found_from_its_plane() -> None:
    scene, near, far = TwoPlanes(near_m=1.5), near_core(), far_core()
    truth = parallax_px(1.5)
    assert truth > 22
    without = watched(scene, 3, LocalRegistration())[-1]
    seen = watched(scene, 3, LocalRegistration(planes=planes_at(1.5)))[-1]
    assert np.median(np.abs(without[near] - truth)) > 15
    assert np.median(np.abs(seen[near] - truth)) < 1.5 and np.median(np.abs(seen[far])) < 0.5
    bounded = watched(scene, 3, LocalRegistration(8.0, planes_at(1.5)))[-1]
    assert bounded[near | far].max() < 8.2, "a limit that is set holds"


def test_an_object_that_comes_into_a_known_scene_is_put_onto_its_plane() -> None:
    local = LocalRegistration(planes=planes_at(1.5))
    stage = Registration(wall, SIZE, local=local)
    for moment in range(20):
        stage(pair_at(TwoPlanes(near_m=40.0 if moment < 4 else 1.5), moment))
    assert np.median(np.abs(shifts(local)[near_core()] - parallax_px(1.5))) < 1.5


def test_planes_do_not_move_what_does_not_lie_on_them() -> None:
    off = np.abs(watched(TwoPlanes(near_m=40.0), 3, LocalRegistration(planes=planes_at(1.5)))[-1])
    assert off[far_core() | near_core()].max() < 1


def test_planes_that_move_nothing_share_one_comparison_of_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    agreement = LocalAlignment.agreement

    def counted(self: LocalAlignment, infrared: Float32Array, seen: Float32Array | None) -> Float32Array:
        compared.append(infrared)
        return agreement(self, infrared, seen)

    monkeypatch.setattr(LocalAlignment, "agreement", counted)

    def planes(infrared: Size, visible: Size) -> list[Displacement]:
        return [displacement for near_m in (1.5, 1.0) for displacement in planes_at(near_m)(infrared, visible)]

    watched(TwoPlanes(near_m=40.0), 1, LocalRegistration(planes=planes))
    assert len(compared) == 3, "one as it is, and one for each plane"
