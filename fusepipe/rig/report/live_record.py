"""The live part of a run's report: the rig's states, each camera's clock and connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.sources.base import Source
from fusepipe.pipeline.sources.live.camera import LiveSource


def camera_errors(sources: Sequence[Source]) -> dict[str, str]:
    """Why live cameras deliver nothing, by band, without secrets; those that deliver are missing."""
    return {str(one.band): one.last_error for one in sources if isinstance(one, LiveSource) and one.last_error}


def live_record(pairer: LivePairer, sources: Sequence[Source]) -> dict[str, Any]:
    """Plain values; ``seconds`` is the time in each state, ``freezes`` counts frozen infrared images.

    ``sync`` has the values that frames are paired with, and which of them are measured. ``up`` of a camera: whether new
    images of it arrive now; ``frozen_s``: for how long its image has been the same, 0 unless it counts as frozen.
    """
    now, rules, now_ns = pairer.degradation, pairer.rules, time.monotonic_ns()
    cameras: dict[str, Any] = {}
    for source in sources:
        camera: dict[str, Any] = {
            "up": pairer.receives(source.band, now_ns),
            "clock": pairer.clocks[source.band].report().as_json(),
        }
        if (freeze := pairer.freezes.get(source.band)) is not None:
            camera |= {
                "freezes": freeze.freezes,
                "frozen_s": round(freeze.frozen_ns / 1e9, 1) if freeze.frozen else 0.0,
            }
        if isinstance(source, LiveSource):
            camera |= {"connections": source.connections, "failures": dict(source.failures)}
        cameras[str(source.band)] = camera
    return {
        "sync": {
            "tolerance_ms": round(rules.tolerance_ns / 1e6, 1),
            "max_wait_ms": round(rules.max_wait_ns / 1e6, 1),
            "auto": sorted(rules.auto),
        },
        "state": None if now.state is None else str(now.state),
        "seconds": now.time_s(),
        "changes": now.change_count,
        "freezes": cameras[Band.INFRARED].get("freezes", 0),
        "cameras": cameras,
    }
