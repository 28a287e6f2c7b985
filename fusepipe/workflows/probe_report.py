"""What ``fusepipe probe`` reports of cameras and recordings, as JSON and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fusepipe.core.frames import Band
from fusepipe.core.units import MS
from fusepipe.pipeline.pairing.motion_offset import (
    MotionEnergy,
    MotionOffset,
    ShutterSkew,
    estimate_offset,
    estimate_skew,
)

MIN_SKEW_NS = 8 * MS  # of a rolling shutter that is said: below it is the error of the measurement


@dataclass(frozen=True, slots=True)
class CameraReport:
    """One camera, times in milliseconds. ``colour``: whether its first image has colours, also where they are not used.
    ``interval_ms``: median frame interval. ``age_ms``: median time from capture to arrival.
    """

    url: str
    codec: str
    size: str
    colour: bool
    bit_depth: int
    frames: int
    fps: float
    interval_ms: float
    longest_gap_ms: float
    unreadable: int
    freezes: int
    longest_freeze_ms: float
    clock: dict[str, Any]
    age_ms: float
    failures: dict[str, int]


@dataclass(frozen=True, slots=True)
class PairReport:
    """Both cameras. ``tolerance_ms`` and ``max_wait_ms``: values for ``sync``.

    ``nearest_*_ms``: percentiles of the difference between nearest frames. ``slip_s``: seconds until the clocks have
    drifted apart by one frame.
    """

    tolerance_ms: float
    max_wait_ms: float
    nearest_p50_ms: float
    nearest_p99_ms: float
    relative_skew_ppm: float | None
    relative_skew_error_ppm: float | None
    slip_s: float | None
    motion: MotionOffset | None
    shutter: ShutterSkew | None = None


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Everything measured in ``seconds``."""

    seconds: float
    cameras: list[CameraReport]
    pair: PairReport | None = None
    warnings: tuple[str, ...] = ()

    @property
    def offset(self) -> MotionOffset | None:
        """The offset to set; ``None`` where none is clear."""
        return _sure(None if self.pair is None else self.pair.motion)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = []
        for camera in self.cameras:
            lines += camera_lines(camera)
        lines += pair_lines(self.pair) if self.pair is not None else []
        return lines + [f"warning: {text}" for text in self.warnings]


@dataclass(frozen=True, slots=True)
class RecordingTiming:
    """What motion in two recordings says about their times: an offset, and the difference of the rolling shutters."""

    motion: MotionOffset | None
    shutter: ShutterSkew | None

    @classmethod
    def measured(cls, infrared: MotionEnergy, visible: MotionEnergy) -> RecordingTiming:
        """From the motion of each."""
        return cls(estimate_offset(infrared.samples, visible.samples), estimate_skew(infrared, visible))

    @property
    def sure(self) -> bool:
        """Whether the offset is one to set."""
        return self.motion is not None and self.motion.sure

    @property
    def offset_key(self) -> str:
        """The setting of the rig; empty where motion gives none."""
        return f"sync: {{offset: {self.motion.offset_ns / MS:.0f}ms}}" if self.motion and self.motion.sure else ""


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """One recording: ``seconds`` from its first to its last frame that was read."""

    url: str
    codec: str
    size: str
    frames: int
    unreadable: int
    fps: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordingsReport:
    """Two recordings, infrared and visible. ``offset_key``: the setting of the rig, empty where motion gives none."""

    recordings: list[RecordingReport]
    motion: MotionOffset | None
    shutter: ShutterSkew | None
    offset_key: str

    @property
    def offset(self) -> MotionOffset | None:
        """The offset to set; ``None`` where none is clear."""
        return _sure(self.motion)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{one.url}: {one.codec} {one.size}, {one.fps:.2f} fps, {one.frames} frames, {one.seconds:.1f} s"
            for one in self.recordings
        ]
        lines.append("together:")
        if self.motion is None:
            lines.append("  no offset: the recordings have less than 4 s in common")
        return lines + motion_lines(self.motion, self.shutter)


def camera_lines(camera: CameraReport) -> list[str]:
    """The report of one camera as text, a line for each entry."""
    clock = camera.clock
    depth = f" {camera.bit_depth} bit" if camera.bit_depth > 8 else ""
    kind = "colour" if camera.colour else "grey"
    if clock["skew_ppm"] is None:
        skew = "skew not known yet (probe for longer)"
    else:
        skew = f"skew {clock['skew_ppm']:+.0f}±{clock['skew_error_ppm']:.0f} ppm"
    lines = [
        f"{camera.url}: {camera.codec} {camera.size} {kind}{depth}, {camera.fps:.2f} fps, {camera.frames} frames",
        f"  clock: {clock['grade']}, {skew}; arrival jitter {clock['jitter_ms']:.1f} ms, "
        f"longest gap {camera.longest_gap_ms:.0f} ms",
    ]
    if clock["grade"] in ("sender", "kernel"):
        lines.append(f"  frames arrive {camera.age_ms:.0f} ms after their capture, by the camera's own clock")
    if camera.freezes:
        lines.append(f"  image froze {camera.freezes} times, up to {camera.longest_freeze_ms:.0f} ms")
    if camera.unreadable:
        lines.append(f"  {camera.unreadable} frames could not be decoded")
    if camera.failures:
        lines.append("  lost: " + ", ".join(f"{count} {cause}" for cause, count in camera.failures.items()))
    return lines


def pair_lines(pair: PairReport) -> list[str]:
    """The report of two cameras as text, with the suggested settings of ``sync``."""
    lines = [
        f"together: nearest frames are {pair.nearest_p50_ms:.1f} ms apart (median), {pair.nearest_p99_ms:.1f} ms (99th "
        f"percentile)",
        f"  set sync: {{tolerance: {pair.tolerance_ms:.0f}ms, max_wait: {pair.max_wait_ms:.0f}ms}}, or "
        f"leave both out: a run measures them",
    ]
    if pair.relative_skew_ppm is not None:
        slip = f": one frame of slip every {pair.slip_s:.0f} s" if pair.slip_s else ", within the error: no slip found"
        lines.append(f"  clocks differ by {pair.relative_skew_ppm:+.0f}±{pair.relative_skew_error_ppm:.0f} ppm{slip}")
    return lines + motion_lines(pair.motion, pair.shutter)


def motion_lines(motion: MotionOffset | None, shutter: ShutterSkew | None) -> list[str]:
    """What motion in both images says, with the setting of ``sync``."""
    lines = []
    if motion is not None and motion.sure:
        lines.append(
            f"  motion in the images agrees best with sync: {{offset: {motion.offset_ns / MS:.0f}ms}} "
            f"(±{motion.uncertainty_ns / MS:.0f} ms, correlation {motion.correlation:.2f})"
        )
    elif motion is not None:
        lines.append("  no offset from motion in the images (too little motion, or too uniform)")
    if shutter is not None:
        longer = Band.VISIBLE if shutter.skew_ns > 0 else Band.INFRARED
        lines.append(
            f"  rolling shutter: the {longer} camera takes {abs(shutter.skew_ns) / MS:.0f} ms longer from the first "
            f"row to the last (correlation {shutter.correlation:.2f})"
            if abs(shutter.skew_ns) >= MIN_SKEW_NS
            else f"  rolling shutter: no difference above {MIN_SKEW_NS / MS:.0f} ms between the cameras"
        )
    return lines


def _sure(motion: MotionOffset | None) -> MotionOffset | None:
    return motion if motion is not None and motion.sure else None
