"""The status of a running rig, derived from its figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusepipe.core.frames import PairState
from fusepipe.core.rig_state import RigState, RigStatus

_PAIRS = {
    PairState.HELD: "the last infrared frame is repeated",
    PairState.SINGLE: "only one camera delivers frames",
    PairState.NO_SIGNAL: "no camera delivers frames",
}


def degradations(
    pair_state: PairState | None,
    sinks: Sequence[dict[str, Any]],
    overload: Mapping[str, Any] | None = None,
    cameras: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[str, ...]:
    """Why a running rig does not deliver what it should: one sentence for each reason, empty if it does.

    ``pair_state`` is the present state of a live rig, ``None`` for recordings and before the first pair; ``sinks`` are
    the states of :meth:`fusepipe.pipeline.graph.Graph.sink_states`; ``overload`` is the record of
    :class:`fusepipe.rig.overload.watch.OverloadWatch`; ``cameras`` are those of
    :func:`fusepipe.rig.report.live_record.live_record`, by band.
    """
    reasons = [] if pair_state not in _PAIRS else [_PAIRS[pair_state], *_camera_faults(cameras or {})]
    if overload is not None and overload["message"]:
        reasons.append(overload["message"])
    if overload is not None and overload["lighter_model"]:
        reasons.append(f"fused by the lighter model {overload['lighter_model']}")
    return (*reasons, *(f"output is down: {sink['error']}" for sink in sinks if not sink["up"]))


def _camera_faults(cameras: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why pairs lack a camera, where it is known."""
    frozen = [band for band, camera in cameras.items() if camera.get("frozen_s")]
    away = [band for band, camera in cameras.items() if not camera["up"] and band not in frozen]
    return [
        *(f"the image of the {band} camera is frozen: its frames repeat one image" for band in frozen),
        *(f"the {band} camera delivers no frames" for band in away),
    ]


def status_of(*, finished: bool, error: BaseException | None, reasons: tuple[str, ...]) -> RigStatus:
    """The status of a rig that was started; ``reasons`` are its :func:`degradations`."""
    if error is not None:
        return RigStatus(RigState.FAILED, (str(error) or type(error).__name__,))
    if finished:
        return RigStatus(RigState.STOPPED)
    return RigStatus(RigState.DEGRADED if reasons else RigState.RUNNING, reasons)
