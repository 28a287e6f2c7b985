"""Drift detection and correction in a running rig, on registered pairs sampled at a low rate.

:meth:`DriftWatch.check` is called by one thread: its own, or the registration stage where a correction has to apply
from the same frame in every run (recordings).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Literal

from fusepipe.calibration.aligner import Aligner
from fusepipe.calibration.drift import Corrector, DriftMeter, DriftMonitor, DriftState
from fusepipe.calibration.gradient_field import to_luma8
from fusepipe.core import levels
from fusepipe.core.frames import FramePair, Luma8, PairState

INTERVAL_NS = 500_000_000  # of capture time
Mode = Literal["watch", "correct"]


class DriftWatch:
    """Measures and, in mode ``correct``, corrects drift; ``report`` gets a line for each change of state.

    ``local``: the registered image has been moved locally, which would hide drift: it is registered again without.
    """

    def __init__(self, mode: Mode, aligner: Aligner, report: Callable[[str], None], *, local: bool = False) -> None:
        self.mode: Mode = mode
        self._local = local
        self._aligner = aligner
        self._report = report
        self._meter, self._monitor, self._corrector = DriftMeter(), DriftMonitor(), Corrector()
        self._last_ns: int | None = None
        self._lock = threading.Lock()
        self._version = ""
        self._width = 0

    def wants(self, pair: FramePair) -> bool:
        """Whether a sample is due and the pair is suitable; called by the registration stage."""
        if pair.state is not PairState.FUSED or pair.visible is None or pair.luma is None:
            return False
        time_ns = pair.lead.capture_ns
        if self._last_ns is not None and 0 <= time_ns - self._last_ns < INTERVAL_NS:
            return False
        self._last_ns = time_ns
        return True

    def check(self, pair: FramePair) -> None:
        """Measures one registered, tone-mapped pair."""
        registered = self._registered(pair)
        assert pair.visible is not None
        version = pair.warp.version if pair.warp is not None else ""
        if version != self._version:
            self._meter.reset()
            self._version = version
        valid = pair.seen()
        visible = levels.full_range_luma(pair.visible.luma)
        found = self._meter.measure(registered, visible, valid)
        with self._lock:
            before = self._monitor.state
            self._width = visible.shape[1]
            total = found.offset
            if self.mode == "correct" and found.sure and self._corrector.size == found.size:
                total = self._corrector.offset(found.matrix @ self._corrector.total)
            now = self._monitor.add(pair.lead.capture_ns / 1e9, total if found.sure else None)
            moved = self.mode == "correct" and self._corrector.step(found, now is not DriftState.OK)
            correction = self._corrector.total
        if now is not before:
            off_px = total * visible.shape[1]
            self._report(f"drift: {now} at {pair.lead.capture_ns / 1e9:.1f} s, {off_px:.1f} px off the calibration")
        if moved:
            self._aligner.correct(correction, found.size)

    def _registered(self, pair: FramePair) -> Luma8:
        """The infrared image as its warp alone registers it, HxW uint8."""
        if self._local and pair.infrared is not None:
            plane = pair.infrared.luma
            return to_luma8(plane if pair.warp is None else replace(plane, pixels=pair.warp.apply(plane.pixels)))
        luma = pair.registered_luma()
        assert luma is not None
        return levels.full_range_luma(luma)

    def status(self) -> dict[str, Any]:
        """Plain values: ``state``, ``offset_px``, ``corrected_px``, ``checks``, ``blind``, ``events``."""
        with self._lock:
            monitor, width = self._monitor, self._width
            corrected = self._corrector.offset() * width if self.mode == "correct" and monitor.checks else 0.0
            return {
                "mode": self.mode,
                "state": str(monitor.state),
                "offset_px": round(monitor.offset * width, 2),
                "corrected_px": round(corrected, 2),
                "bounded": self._corrector.bounded,
                "checks": monitor.checks,
                "blind": monitor.blind,
                "events": [
                    asdict(e) | {"state": str(e.state), "offset_px": round(e.offset * width, 2)} for e in monitor.events
                ],
            }
