"""Drift is measured on what the warp alone registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusepipe.calibration.aligner import Aligner
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.frames import Band, FramePair, PairState
from fusepipe.pipeline.stages.drift_watch import DriftWatch
from fusepipe.pipeline.stages.local_registration import LocalRegistration
from fusepipe.pipeline.stages.registration import Registration, Size
from fusepipe.pipeline.testing import frame
from tests.helpers.two_planes import SIZE, TRUE_MATRIX, TwoPlanes

OFF_PX = 4.0


def drifted(infrared: Size, visible: Size, distance_m: float | None = None, adjust: Matrix3 | None = None) -> RemapWarp:
    moved = np.array([[1.0, 0, OFF_PX], [0, 1, 0], [0, 0, 1]])
    return RemapWarp(moved @ TRUE_MATRIX, infrared, visible, whole_view=True)


def measured_px(*, local: bool) -> float:
    scene, aligner = TwoPlanes(near_m=40.0), Aligner(drifted)
    watch = DriftWatch("watch", aligner, lambda line: None, local=local)
    stage = Registration(aligner.alignment, SIZE, local=LocalRegistration() if local else None)
    for moment in range(6):
        time_ns = moment * 500_000_000
        pair = FramePair(
            moment,
            PairState.FUSED,
            Band.VISIBLE,
            frame(Band.INFRARED, moment, time_ns, pixels=scene.infrared(moment)),
            frame(Band.VISIBLE, moment, time_ns, pixels=scene.visible(moment)),
            0,
        )
        registered = stage(pair)
        registered = replace(registered, luma=registered.registered)
        assert watch.wants(registered)
        watch.check(registered)
    return float(watch.status()["offset_px"])


def test_local_alignment_does_not_hide_drift() -> None:
    assert abs(measured_px(local=False) - OFF_PX) < 0.5
    assert abs(measured_px(local=True) - OFF_PX) < 0.5
