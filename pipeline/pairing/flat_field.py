"""Flat-field corrections that a thermal camera reports in its telemetry: its image counts as frozen meanwhile. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fusepipe.core.camera_telemetry import CameraTelemetry
from fusepipe.core.frames import Band, Frame, FramePair, Original, PairState
from fusepipe.pipeline.pairing.pairer import Pairer, PairingLog
from fusepipe.pipeline.sources.base import SourceItem


class FlatFieldWatch:
    """Follows the telemetry of one camera, in order; used by one thread, :meth:`record` by any."""

    def __init__(self) -> None:
        self._last: Original | None = None  # the last frame outside of a correction
        self._now: CameraTelemetry | None = None
        self._corrected = False
        self.frames = self.frozen_frames = self.corrections = 0

    def push(self, frame: Frame) -> Frame:
        """The frame; during a correction with the last frame before it as its ``original``."""
        telemetry = frame.telemetry
        if telemetry is None:
            return frame
        correcting = telemetry.ffc == "in progress"
        self.frames += 1
        self.frozen_frames += correcting
        self.corrections += correcting and not self._corrected
        self._now, self._corrected = telemetry, correcting
        if not correcting:
            self._last = frame.exposed
        elif frame.original is None and self._last is not None:
            return replace(frame, original=self._last)
        return frame

    def record(self) -> dict[str, Any] | None:
        """The last telemetry, how many frames had one, and in how many corrections; ``None`` without any."""
        now = self._now
        if now is None:
            return None
        counts = {"frames": self.frames, "ffc_frames": self.frozen_frames, "ffcs": self.corrections}
        return {**now.as_json(), **counts}


class FlatFieldPairer:
    """Pairs recordings as ``pairer`` does; frames of a correction count as frozen, as those of a live camera do."""

    def __init__(self, pairer: Pairer) -> None:
        self._pairer = pairer
        self.log: PairingLog = pairer.log
        self.flat_field = FlatFieldWatch()

    def wants(self) -> Band | None:
        return self._pairer.wants()

    def push(self, item: SourceItem) -> list[FramePair]:
        return self._held(self._pairer.push(self.flat_field.push(item) if isinstance(item, Frame) else item))

    def end(self, band: Band) -> list[FramePair]:
        return self._held(self._pairer.end(band))

    def expire(self, now_ns: int) -> list[FramePair]:
        return self._held(self._pairer.expire(now_ns))

    def deadline_ns(self) -> int | None:
        return self._pairer.deadline_ns()

    @staticmethod
    def _held(pairs: list[FramePair]) -> list[FramePair]:
        return [held_if_frozen(pair) for pair in pairs]


def held_if_frozen(pair: FramePair) -> FramePair:
    """A pair with a frozen image is not fused, and its skew is that of the frames that were truly captured."""
    infrared, visible = pair.infrared, pair.visible
    if pair.between is not None and pair.between.following.original is not None:
        pair = replace(pair, between=None, state=PairState.HELD)  # towards a shutter
    if infrared is None or visible is None or (infrared.original is None and visible.original is None):
        return pair
    skew_ns = pair.skew_ns
    if skew_ns is not None:
        skew_ns += infrared.exposed.capture_ns - infrared.capture_ns
        skew_ns -= visible.exposed.capture_ns - visible.capture_ns
    return replace(pair, state=PairState.HELD, skew_ns=skew_ns, between=None)
