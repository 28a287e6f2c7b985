"""One run of an opened rig: its graph, its report, and the settings that change while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.frames import Band, FramePair
from fusepipe.core.rig_state import RigStatus
from fusepipe.pipeline.graph import Graph, require_pairs
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.pairing.flat_field import FlatFieldPairer
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.sinks.runner import SinkFactory
from fusepipe.pipeline.sources.base import HasImageTimes, ReadsFiles, Source, SourceInfo
from fusepipe.pipeline.stages.drift_watch import DriftWatch
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.interpolation import Interpolation
from fusepipe.pipeline.stages.local_registration import LocalRegistration
from fusepipe.pipeline.stages.output_scaling import OutputScaler
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.state_label import StateLabel
from fusepipe.pipeline.stages.stretch import StretchWarning
from fusepipe.rig.factories.live_sinks import Warn
from fusepipe.rig.factories.pairing import make_live_pairer
from fusepipe.rig.factories.registration import plane_displacements
from fusepipe.rig.factories.scene_stages import SceneStages, make_scene_stages
from fusepipe.rig.factories.sensor_corrections import with_denoising
from fusepipe.rig.factories.sink_views import make_views
from fusepipe.rig.from_options import setting_name
from fusepipe.rig.opening import OpenedRig, count_settings
from fusepipe.rig.overload.watch import OverloadWatch
from fusepipe.rig.report.run_report import RunReport
from fusepipe.rig.report.shortfall import shortfall, shortfall_advice
from fusepipe.rig.report.status import degradations, status_of
from fusepipe.rig.settings.setters import SettableParts, apply_settings, label_enabled

log = logging.getLogger(__name__)


class RigRun:
    """The running graph of an :class:`OpenedRig`. ``rig`` is the configuration in force: a reload may change it.

    ``scene`` has the stages that follow the scene. ``warn`` gets warnings that are logged as well as reported.
    The graph's threads close what was opened.
    """

    def __init__(self, opened: OpenedRig, limits: RunLimits, statistics: RunStatistics, warn: Warn) -> None:
        self.rig = opened.rig
        self.interrupted = False
        self._opened = opened
        self._limited = limits != RunLimits()
        self._statistics = statistics
        self._started_s = self._ended_s = 0.0
        rig, live, visible = opened.rig, opened.live, opened.visible.info
        drift = rig.registration.drift
        self._drift = (
            None
            if drift == "off"
            else DriftWatch(drift, opened.registration.aligner, log.info, local=rig.registration.local == "on")
        )
        self._live_pairer = self._make_live_pairer(warn) if live else None
        pairer = self._live_pairer or FlatFieldPairer(opened.pairer)
        self._flat_field = pairer.flat_field
        self._labeller = StateLabel(on=label_enabled(rig, live=live))
        self._views = make_views(rig, self._labeller, live=live) if opened.own_sinks else []
        fusion = FusionStep(
            opened.fuser,
            colour=rig.output.colour,
            grey_without_visible=visible.grey,
            prompt=live,
        )
        self._overload = None
        if live:
            self._overload = OverloadWatch(rig.name, opened.fuser, fusion, statistics, rig.fusion.on_overload)
        registration = _registration(opened)
        infrared = opened.infrared.info
        self.scene = make_scene_stages(rig, infrared, count_settings(rig, Band.INFRARED, infrared), statistics.warn)
        self.graph = Graph(
            rig.name,
            sources=opened.sources,
            pairer=pairer,
            transforms=_transforms(opened, registration, self.scene, warn, statistics.warn),
            fuser=opened.fuser,
            fusion=fusion,
            size=_engine_size(opened, registration),
            sinks=opened.sinks,
            statistics=statistics,
            limits=limits,
            drift=self._drift,
            crop=opened.registration.common_view,
            overlay=self._labeller,
            sink_factories=self._restarts(),
            views=[*self._views, *[None] * (len(opened.sinks) - len(self._views))],
            watch=None if self._overload is None else self._overload.run,
        )
        if self._overload is not None:
            self._overload.watches(self.graph)

    def _make_live_pairer(self, warn: Warn) -> LivePairer:
        opened = self._opened
        rates = {Band.INFRARED: opened.infrared.info.fps, Band.VISIBLE: opened.visible.info.fps}
        return make_live_pairer(opened.rig, opened.pairer, opened.output_size, rates=rates, warn=warn)

    def _restarts(self) -> list[SinkFactory | None]:
        """For each sink, how to make one in place of it: as the rig's settings are by then."""
        restarts = self._opened.sink_restarts

        def factory(index: int) -> SinkFactory | None:
            restart = restarts.get(index)
            return None if restart is None else lambda: restart(self.rig)

        return [factory(index) for index in range(len(self._opened.sinks))]

    # -- life

    def start(self) -> None:
        """Starts the threads."""
        self._started_s = time.monotonic()
        self.graph.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """``False`` when it still runs after ``timeout_s``. Does not raise the run's own error."""
        done = self.graph.wait(timeout_s)
        if done and not self._ended_s:
            self._ended_s = time.monotonic()
        return done

    def interrupt(self) -> None:
        """Drains, and the report says that the run was interrupted; a second call aborts."""
        if self.interrupted:
            self.graph.abort()
        self.interrupted = True
        self.graph.drain()

    def raise_error(self) -> None:
        """Raises what ended the run early; unexpected exceptions are wrapped to name the stage."""
        if (error := self._error()) is not None:
            raise error
        seen = self.graph.statistics
        skipped, read = self.graph.pairer.log.skipped, {str(band): count for band, count in seen.read.items()}
        advice = shortfall_advice(seen.states, read, skipped, self._setting, self._camera_errors())
        require_pairs(self.graph, advice)

    def _error(self) -> FusepipeError | None:
        error = self.graph.error
        if error is None or isinstance(error, FusepipeError):
            return error
        stage = self.graph.supervisor.failed_thread.removeprefix(f"{self.rig.name}/")
        named = FusepipeError(f"{self.rig.name}: {stage} failed: {type(error).__name__}: {error}")
        named.__cause__ = error
        return named

    # -- settings

    def set_plane_distance(self, distance_m: float | None) -> None:
        """See :meth:`fusepipe.Pipeline.set_plane_distance`."""
        infrared, visible = self._opened.infrared.info, self._opened.visible.info
        if not (infrared.known and visible.known):
            raise UsageError(f"{self.rig.name}: a camera was offline at the start; set plane_distance in the rig")
        aligner = self._opened.registration.aligner
        aligner.set_plane_distance(distance_m, (infrared.width, infrared.height), (visible.width, visible.height))

    def reconfigure(self, rig: Rig) -> list[str]:
        """See :meth:`fusepipe.Pipeline.reconfigure`."""
        parts = SettableParts(
            self.set_plane_distance,
            self._opened.pairer,
            self._live_pairer,
            self._labeller,
            self.graph.runners,
            self._views,
        )
        self.rig, lines, restarts = apply_settings(self.rig, rig, parts)
        for runner in restarts:  # now that self.rig has the settings that they are made from
            runner.request_restart()
        return lines

    # -- report

    def status(self) -> RigStatus:
        """What the rig does now; from any thread."""
        live = self._live_record()
        state = None if self._live_pairer is None else self._live_pairer.degradation.state
        reasons = degradations(
            state, self.graph.sink_states(), self._overload_record(), None if live is None else live["cameras"]
        )
        return status_of(finished=self.graph.supervisor.finished, error=self._error(), reasons=reasons)

    def _overload_record(self) -> dict[str, Any] | None:
        return None if self._overload is None else self._overload.record()

    def _live_record(self) -> dict[str, Any] | None:
        if self._live_pairer is None:
            return None
        from fusepipe.rig.report.live_record import live_record

        return live_record(self._live_pairer, self._opened.sources)

    def _camera_errors(self) -> dict[str, str]:
        if self._live_pairer is None:
            return {}
        from fusepipe.rig.report.live_record import camera_errors

        return camera_errors(self._opened.sources)

    def report(self) -> RunReport:
        """The figures of the run so far."""
        graph, opened, seen = self.graph, self._opened, self._statistics.snapshot()
        seconds = (self._ended_s or time.monotonic()) - self._started_s
        return RunReport(
            rig=self.rig.name,
            status=self.status(),
            ok=graph.error is None,
            interrupted=self.interrupted,
            seconds=round(seconds, 3),
            pairs=seen["states"],
            pairs_per_s=round(sum(seen["states"].values()) / seconds, 2) if seconds > 0 else 0.0,
            read=seen["read"],
            skipped=dict(graph.pairer.log.skipped),
            notes=list(graph.pairer.log.notes),
            dropped=graph.dropped(),
            skew_ms=seen["skew_ms"] or None,
            latency_ms=seen["latency_ms"],
            sources=opened.source_records(self._flat_field.record()),
            registration=opened.registration.description,
            drift=None if self._drift is None else self._drift.status(),
            engine=asdict(opened.fuser.info),
            written=[asdict(r) for r in graph.sink_reports],
            sinks=graph.sink_states(),
            stage_cpu_s={k: round(v / 1e9, 3) for k, v in seen["stage_cpu_ns"].items()},
            warnings=seen["warnings"],
            error=None if graph.error is None else str(graph.error),
            live=self._live_record(),
            overload=self._overload_record(),
            shortfall=self._shortfall(seen) or None,
            gain=self.scene.tone_map.description,
        )

    def _shortfall(self, seen: dict[str, Any]) -> str:
        """See :func:`fusepipe.rig.report.shortfall.shortfall`; empty while it runs."""
        if not self.graph.supervisor.finished:
            return ""
        stopped = self.interrupted or self.graph.supervisor.stopped_early
        whole = not (self._limited or stopped or self._opened.live or self.graph.error)
        return shortfall(
            seen["states"],
            seen["read"],
            self.graph.pairer.log.skipped,
            whole=whole,
            dropped=self.graph.dropped(),
            setting=self._setting,
            errors=self._camera_errors(),
        )

    def _setting(self, key: str) -> str:
        return setting_name(self.rig, key)

    def preview_record(self) -> dict[str, Any]:
        """The report with values that exist only while running, for the preview; safe from any thread.

        ``depths`` are queue lengths; ``process_cpu_s`` includes other rigs and the program itself. ``recent`` is what
        it does now, see :meth:`RunStatistics.recent`, also for each of its ``sinks``. ``warnings`` leave out that a
        camera was missing at the start once it delivers images.
        """
        now_ns, report = time.monotonic_ns(), self.report()
        return {
            **report.as_json(),
            "warnings": [text for text in report.warnings if not self._has_come(text, report.read)],
            "depths": self.graph.depths(),
            "recent": {**self._statistics.recent(now_ns), "sinks": self.graph.sinks_recently(now_ns)},
            "process_cpu_s": round(time.process_time(), 3),
        }

    def _has_come(self, warning: str, read: Mapping[str, int]) -> bool:
        """Whether a warning says that a camera was missing that delivers images now."""
        missing = [(one.source.band, one.info.offline_reason) for one in (self._opened.infrared, self._opened.visible)]
        return any(reason and reason in warning and read.get(band) for band, reason in missing)


def _is_video(source: Source) -> bool:
    """Whether a source is a recording, whose frames have one size; images of a folder keep their own."""
    return isinstance(source, ReadsFiles) and not isinstance(source, HasImageTimes)


def _registration(opened: OpenedRig) -> Registration:
    aligner, fuser, settings = opened.registration.aligner, opened.fuser.info, opened.rig.registration
    local = LocalRegistration(settings.limit_px, plane_displacements(settings)) if settings.local == "on" else None
    registration = Registration(
        aligner.alignment,
        opened.output_size,
        apply=local is not None or not fuser.accepts_warp,
        # a crop is a rectangle of visible pixels and cuts the registered infrared image alike
        max_visible_levels=fuser.max_visible_levels if opened.registration.common_view is None else 0,
        local=local,
    )
    aligner.on_change(registration.replace)
    return registration


def _engine_size(opened: OpenedRig, registration: Registration) -> tuple[int, int] | None:
    """(height, width) to compile the engine for.

    A pyramid network's graph for pairs whose visible size is halved to that of the infrared image is its graph for the
    halved size.
    """
    size, infrared = opened.engine_size, opened.infrared.info
    if size is None or not infrared.known:
        return size
    levels = registration.visible_levels((infrared.width, infrared.height), opened.output_size)
    return size[0] >> levels, size[1] >> levels


def _transforms(
    opened: OpenedRig, registration: Registration, scene: SceneStages, warn: Warn, warn_in_report: Warn
) -> list[Callable[[FramePair], FramePair]]:
    """What each pair passes before fusion: the canvas of a live rig, registration, tone mapping."""
    rig, visible = opened.rig, opened.visible.info
    transforms: list[Callable[[FramePair], FramePair]] = [with_denoising(scene.noisy, registration), scene.tone_map]
    if not opened.live:
        transforms.insert(0, Interpolation())
    if scene.repair is not None:
        transforms.insert(0, scene.repair)
    if not opened.live and _is_video(opened.visible.source):
        transforms.insert(
            0, OutputScaler(opened.output_size if visible.known else None, not visible.grey, warn_in_report)
        )
    if opened.live:
        size = opened.output_size if visible.known or rig.output.size is not None else None
        transforms.insert(0, OutputScaler(size, not visible.grey if visible.known else None, warn))
        if rig.registration.calibration is None:
            stretched = StretchWarning(setting_name(rig, "registration.calibration"), warn)
            if visible.known and opened.infrared.info.known:  # reported when they were opened
                stretched.ignore(_size(opened.infrared.info), _size(visible))
            transforms.insert(0, stretched)
    return transforms


def _size(info: SourceInfo) -> tuple[int, int]:
    return info.width, info.height
