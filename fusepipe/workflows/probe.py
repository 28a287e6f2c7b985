"""``fusepipe probe``: measures what one or two live cameras deliver, or the offset of two recordings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fusepipe.config.schema import SourceConfig
from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.units import MS
from fusepipe.pipeline.pairing.auto_sync import measured_timing, needed_tolerance_ns, needed_wait_ns
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.clock_advice import clock_advice
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.pairing.motion_offset import (
    MotionEnergy,
    MotionOffset,
    ShutterSkew,
    estimate_offset,
    estimate_skew,
)
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.rig.factories.sources import make_source, open_cameras
from fusepipe.rig.input_warnings import input_warnings

MIN_SKEW_NS = 8 * MS  # of a rolling shutter that is said: below it is the error of the measurement
LIVE_S = 10.0
JOIN_S = 25.0  # for a camera's thread to end: its open and stall timeouts


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


@dataclass
class CameraRecording:
    """The measurements of one camera's thread."""

    band: Band
    source: Source
    clock: CaptureClock = field(default_factory=CaptureClock)
    freeze: FreezeDetector = field(default_factory=FreezeDetector)
    motion: MotionEnergy = field(default_factory=MotionEnergy)
    frames: list[Frame] = field(default_factory=list)  # without pixels, but the first
    ages_ns: list[int] = field(default_factory=list)
    unreadable: int = 0
    error: BaseException | None = None


def probe(configs: list[SourceConfig], seconds: float | None = None) -> ProbeReport | RecordingsReport:
    """Reads one or two live cameras simultaneously for ``seconds`` (default: 10), or two recordings from their start
    (default: all of them).

    Raises :class:`UsageError` for a single recording, :class:`SourceError` for a source that delivers no frames.
    """
    bands = (Band.VISIBLE,) if len(configs) == 1 else (Band.INFRARED, Band.VISIBLE)
    seen = [
        CameraRecording(band, make_source(config, band, "probe")) for band, config in zip(bands, configs, strict=True)
    ]
    recorded = [one for one in seen if one.source.clock != "wall"]
    if len(recorded) == 2:
        return _probe_recordings(seen, seconds)
    if recorded:
        raise UsageError(
            f"{recorded[0].source.label}: probe is for live cameras, or for two recordings together: a recording has "
            "no arrival times"
        )
    seconds = LIVE_S if seconds is None else seconds
    infos = open_cameras([one.source for one in seen])
    stop = threading.Event()
    clocks = [one.clock for one in seen]
    threads = [threading.Thread(target=_collect, args=(one, clocks, stop), name=f"probe-{one.band}") for one in seen]
    for thread in threads:
        thread.start()
    try:
        stop.wait(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join(JOIN_S)
    for one in seen:
        if one.error is not None:
            raise one.error
        if len(one.frames) < 2:
            raise SourceError(f"{one.source.label}: delivered {len(one.frames)} frames in {seconds:g} s")
    cameras = [camera_report(one, info) for one, info in zip(seen, infos, strict=True)]
    if len(seen) == 1:
        return ProbeReport(seconds, cameras)
    infrared, visible = seen
    warnings = list(input_warnings((infrared.source, visible.source), *infos))
    if infrared.clock.delay_ns is not None and visible.clock.delay_ns is not None:
        warnings += filter(None, [clock_advice(infrared.clock.delay_ns, visible.clock.delay_ns)])
    return ProbeReport(seconds, cameras, pair_report(infrared, visible), tuple(warnings))


def _probe_recordings(seen: list[CameraRecording], seconds: float | None) -> RecordingsReport:
    reports = []
    for one in seen:
        with closing(one.source):
            info = one.source.open()
            if not info.timed:
                raise UsageError(f"{one.source.label}: its images have no times; an offset needs two videos")
            times = _read_recording(one, seconds)
        if len(times) < 2:
            raise SourceError(f"{one.source.label}: has {len(times)} readable frames; two are needed")
        span_s = (times[-1] - times[0]) / 1e9
        fps = round(1e9 / float(np.median(np.diff(times))), 3)
        size = f"{info.width}x{info.height}"
        reports.append(
            RecordingReport(one.source.label, info.codec, size, len(times), one.unreadable, fps, round(span_s, 3))
        )
    timing = RecordingTiming.measured(*(one.motion for one in seen))
    return RecordingsReport(reports, timing.motion, timing.shutter, timing.offset_key)


def _read_recording(seen: CameraRecording, seconds: float | None) -> list[int]:
    """Collects the motion of a recording's first ``seconds``; returns its capture times."""
    times: list[int] = []
    for item in seen.source.frames(threading.Event()):
        if not isinstance(item, Frame):
            seen.unreadable += isinstance(item, UnreadableFrame)
            continue
        times.append(item.capture_ns)
        if seconds is not None and times[-1] - times[0] > seconds * 1e9:
            break
        seen.motion.push(item)
    return times


def _sure(motion: MotionOffset | None) -> MotionOffset | None:
    return motion if motion is not None and motion.sure else None


def _collect(seen: CameraRecording, clocks: Sequence[CaptureClock], stop: threading.Event) -> None:
    """Measures a camera; ``clocks`` are those of all, and used as a run uses them: no offset would hold for it else."""
    try:
        for item in seen.source.frames(stop):
            if not isinstance(item, Frame):
                seen.unreadable += isinstance(item, UnreadableFrame)
                continue
            seen.clock.use_absolute = all(clock.absolute for clock in clocks)
            frame = seen.clock.stamp(item)
            seen.freeze.push(frame)
            seen.motion.push(frame)
            seen.ages_ns.append(frame.arrival_ns - frame.capture_ns)
            seen.frames.append(frame if len(seen.frames) < 1 else _without_pixels(frame, seen.frames[0]))
    except SourceError as error:
        seen.error = error
    finally:
        seen.source.close()


def _without_pixels(frame: Frame, first: Frame) -> Frame:
    """The frame's times with the first frame's planes: minutes of images would fill the memory."""
    return replace(frame, planes=first.planes) if frame.luma.pixels.shape == first.luma.pixels.shape else frame


def camera_report(seen: CameraRecording, info: SourceInfo) -> CameraReport:
    """Frame rate, gaps, clock and failures of one recorded camera, which has at least two frames."""
    frames = seen.frames
    last = frames[-1]
    arrivals = np.diff([f.arrival_ns for f in frames]) / MS
    captures = np.diff([f.capture_ns for f in frames]) / MS
    sizes = list(dict.fromkeys(f"{f.width}x{f.height}" for f in frames))
    return CameraReport(
        url=seen.source.label,
        codec=info.codec,
        size=", ".join(sizes),
        colour=info.colour != "grey",
        bit_depth=last.luma.bit_depth,
        frames=len(frames),
        fps=round(1000 / float(np.median(captures)), 3),
        interval_ms=round(float(np.median(captures)), 3),
        longest_gap_ms=round(float(arrivals.max()), 1),
        unreadable=seen.unreadable,
        freezes=seen.freeze.freezes,
        longest_freeze_ms=round(seen.freeze.longest_ns / MS, 1),
        clock=seen.clock.report().as_json(),
        age_ms=round(float(np.median(seen.ages_ns[-100:])) / MS, 1),
        failures=dict(getattr(seen.source, "failures", {})),
    )


def pair_report(infrared: CameraRecording, visible: CameraRecording) -> PairReport:
    """Suggested tolerance, relative clock skew and offset of two cameras that were recorded at the same time.

    Raises :class:`SourceError` where their frames do not overlap in time.
    """
    motion = estimate_offset(infrared.motion.samples, visible.motion.samples)
    own, other = (np.array([f.capture_ns for f in s.frames], np.int64) for s in (visible, infrared))
    nearest = np.array([np.abs(other - t).min() for t in own if other[0] <= t <= other[-1]]) / MS
    if not nearest.size:
        raise SourceError("the two cameras delivered no frames at the same time; probe for longer")
    intervals = [float(np.median(np.diff(times))) / MS for times in (own, other)]
    a, b = (s.clock.report().estimate for s in (infrared, visible))
    known = a.skew_error_ppm < 1e9 and b.skew_error_ppm < 1e9
    skew_ppm = a.skew_ppm - b.skew_ppm if known else None
    error_ppm = a.skew_error_ppm + b.skew_error_ppm
    times = [([f.capture_ns for f in s.frames], [f.arrival_ns for f in s.frames]) for s in (visible, infrared)]
    own_timing, other_timing = (measured_timing(captures, arrivals, captures) for captures, arrivals in times)
    return PairReport(
        tolerance_ms=needed_tolerance_ns(other_timing) / MS,
        max_wait_ms=needed_wait_ns(own_timing, other_timing) / MS,
        nearest_p50_ms=round(float(np.percentile(nearest, 50)), 2),
        nearest_p99_ms=round(float(np.percentile(nearest, 99)), 2),
        relative_skew_ppm=None if skew_ppm is None else round(skew_ppm, 1),
        relative_skew_error_ppm=round(error_ppm, 1) if known else None,
        slip_s=round(min(intervals) * 1000 / abs(skew_ppm), 1) if skew_ppm and abs(skew_ppm) > error_ppm else None,
        motion=motion,
        shutter=estimate_skew(infrared.motion, visible.motion),
    )


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
