"""``fusepipe probe``: measures what one or two live cameras deliver, or the offset of two recordings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from fusepipe.config.schema import SourceConfig
from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, Frame, UnreadableFrame
from fusepipe.core.units import MS
from fusepipe.pipeline.pairing.auto_sync import measured_timing, needed_tolerance_ns, needed_wait_ns
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.clock_advice import clock_advice
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.pairing.motion_offset import MotionEnergy, estimate_offset, estimate_skew
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.rig.factories.sources import make_source, open_cameras
from fusepipe.rig.input_warnings import input_warnings
from fusepipe.workflows.probe_report import (
    CameraReport,
    PairReport,
    ProbeReport,
    RecordingReport,
    RecordingsReport,
    RecordingTiming,
)

LIVE_S = 10.0
JOIN_S = 25.0  # for a camera's thread to end: its open and stall timeouts


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
