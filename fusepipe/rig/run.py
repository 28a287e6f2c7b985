"""One rig, from its configuration to a finished run.

    report = Pipeline(load_rig("rigs.yaml", "demo")).run()

:meth:`Pipeline.start`, :meth:`~Pipeline.wait` and :meth:`~Pipeline.drain` are the same in steps, for
programs that run several rigs or have something else to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusepipe.calibration.aligner import Aligner
from fusepipe.config.load import load_rig_file
from fusepipe.config.schema import Rig
from fusepipe.config.unsupported import unavailable
from fusepipe.core.errors import ConfigError, FusepipeError, SourceError, UsageError
from fusepipe.core.frames import Band, FramePair
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.graph import Graph, RunLimits, require_pairs
from fusepipe.pipeline.pairing.degradation import Change
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sinks.base import Sink, StartableSink
from fusepipe.pipeline.sinks.runner import SinkFactory
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.pipeline.stages.cropping import CommonViewCrop
from fusepipe.pipeline.stages.drift_watch import DriftWatch
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.pipeline.stages.output_scaling import OutputScaler
from fusepipe.pipeline.stages.registration import Registration
from fusepipe.pipeline.stages.state_label import StateLabel
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.pipeline.statistics import RunStatistics
from fusepipe.rig import compose
from fusepipe.rig.compose import load_fuser
from fusepipe.rig.live_report import live_record
from fusepipe.rig.live_settings import Parts, label_on, reconfigure
from fusepipe.rig.plan import Plan
from fusepipe.rig.report import RunReport

__all__ = ["Pipeline", "Plan", "load_fuser", "load_rig"]

log = logging.getLogger(__name__)

CARD_SIZE = (640, 480)  # of the output of a live rig while no camera has been seen and output.size is not set


def load_rig(path: str | Path, name: str | None = None) -> Rig:
    """The rig ``name`` of a rigs.yaml; ``name`` may be left out where the file has only one."""
    document = load_rig_file(Path(path))
    rigs = document.select(None if name is None else [name])
    if len(rigs) != 1:
        raise UsageError(f"{path}: has {len(rigs)} rigs ({', '.join(r.name for r in rigs)}); name one")
    return rigs[0]


class Pipeline:
    """One run of one rig; not reusable. ``sinks`` and ``fuser`` replace the rig's own where given; such sinks are not
    started anew when they fail.

    ``max_pairs`` and ``duration_s`` (of capture time) end it early. The pipeline closes what it is given.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        overwrite: bool = False,
        max_pairs: int | None = None,
        duration_s: float | None = None,
        sinks: Sequence[Sink] | None = None,
        fuser: Fuser | None = None,
    ) -> None:
        later = unavailable(rig)  # a rig that was made in Python has not been through the file's checks
        if later:
            raise ConfigError(problems=later)
        self.rig = rig
        self.statistics = RunStatistics()
        self.interrupted = False
        self._opened = False
        self._overwrite = overwrite
        self._limits = RunLimits(max_pairs, None if duration_s is None else round(duration_s * 1e9))
        self._sinks: Sequence[Sink] | None = sinks
        self._renew: Sequence[SinkFactory | None] = ()
        self._fuser = fuser
        self._sources: list[Source] = []
        self._info: dict[Band, SourceInfo] = {}
        self._pairer: Pairer | None = None
        self._graph: Graph | None = None
        self._started_s = self._ended_s = 0.0
        self._registration_text = ""
        self._aligner: Aligner | None = None
        self._common_view: CommonViewCrop | None = None
        self._drift: DriftWatch | None = None
        self._live_pairer: LivePairer | None = None
        self._labeller = StateLabel(on=False)

    # -- life

    def plan(self) -> Plan:
        """Opens the inputs, compiles the engine, checks the outputs, writes nothing; then it is over."""
        with ExitStack() as stack:
            fuser = self._open(stack)
            size = self._engine_size()
            if size is not None:
                fuser.prepare(*size)
            sources = self._source_records()
            pairing = "name" if compose.pairs_by_name(self.rig) else "capture time"
            labels = [sink.label for sink in self._sinks or ()]
            return Plan(self.rig.name, sources, pairing, self._registration_text, _engine_record(fuser), labels)

    def run(self) -> RunReport:
        """Runs to the end and gives the record; raises what went wrong. Ctrl-C finalises the files first."""
        self.start()
        try:
            self.wait()
        except KeyboardInterrupt:
            self.interrupt()
            self.wait()
            raise
        self.raise_error()
        return self.report()

    def open(self) -> None:
        """Opens inputs and engine and checks the outputs; raises at once for what cannot work."""
        if self._opened:
            return
        with ExitStack() as stack:
            self._open(stack)
            stack.pop_all()  # from here on the graph's threads close what was opened
        self._opened = True

    def start(self) -> None:
        """Starts the threads; :meth:`open` first, unless that was done."""
        self.open()
        fuser, sinks, pairer = self._fuser, self._sinks, self._pairer
        assert fuser is not None and sinks is not None and pairer is not None
        visible = self._info[Band.VISIBLE]
        aligner = self._aligner
        assert aligner is not None
        size = self._output_size()
        registration = Registration(aligner.alignment, size, apply=not fuser.info.accepts_warp)
        aligner.on_change(registration.replace)
        drift = self.rig.registration.drift
        self._drift = None if drift == "off" else DriftWatch(drift, aligner, log.info)
        transforms: list[Callable[[FramePair], FramePair]] = []
        if self.live:
            assert isinstance(pairer, TimePairer)
            self._live_pairer = compose.live_pairer(self.rig, pairer, size, time.monotonic_ns(), self._state_changed)
            known = visible.known or self.rig.output.size is not None
            colour = not visible.grey if visible.known else None
            transforms.append(OutputScaler(size if known else None, colour, self._warn_and_log))
        transforms += [registration, ToneMap(self.rig.infrared.count_range, self._warn)]
        self._labeller.on = label_on(self.rig, live=self.live)
        self._graph = Graph(
            self.rig.name,
            sources=self._sources,
            pairer=self._live_pairer or pairer,
            transforms=transforms,
            fuser=fuser,
            fusion=FusionStep(
                fuser,
                keep_colour=self.rig.output.colour == "visible",
                grey_without_visible=visible.grey,
                prompt=self.live,
            ),
            size=self._engine_size(),
            sinks=sinks,
            statistics=self.statistics,
            limits=self._limits,
            drift=self._drift,
            framing=self._common_view,
            finishing=self._labeller,
            renew=self._renew,
        )
        self._started_s = time.monotonic()
        self._graph.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """``False`` when it still runs after ``timeout_s``. Does not raise the run's own error."""
        done = self.graph.wait(timeout_s)
        if done and not self._ended_s:
            self._ended_s = time.monotonic()
        return done

    def drain(self) -> None:
        """Ends the inputs; what is under way is still written."""
        self.graph.drain()

    def interrupt(self) -> None:
        """As :meth:`drain`, and the record will say that it was interrupted; a second call stops at once."""
        if self.interrupted:
            self.graph.abort()
        self.interrupted = True
        self.graph.drain()

    def set_plane_distance(self, distance_m: float | None) -> None:
        """Aligns the images at another distance from the next frame on (``None``: the calibration's own).

        Raises :class:`UsageError` where the calibration serves no other distance; nothing changes then.
        """
        if self._aligner is None:
            raise FusepipeError(f"{self.rig.name}: open the pipeline first")
        infrared, visible = self._info[Band.INFRARED], self._info[Band.VISIBLE]
        if not (infrared.known and visible.known):
            raise UsageError(f"{self.rig.name}: a camera was away at the start; set plane_distance in the rig")
        self._aligner.set_plane_distance(distance_m, (infrared.width, infrared.height), (visible.width, visible.height))

    def reconfigure(self, rig: Rig) -> list[str]:
        """Takes over what of another version of the rig can be while it runs; a line for each key that differs."""
        assert self._pairer is not None
        parts = Parts(self.set_plane_distance, self._pairer, self._live_pairer, self._labeller, self.graph.runners)
        self.rig, lines, anew = reconfigure(self.rig, rig, parts)
        for runner in anew:  # now that the rig has what they are made from
            runner.start_anew()
        return lines

    @property
    def finished(self) -> bool:
        """Whether every thread has ended."""
        return self.graph.supervisor.finished

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            raise FusepipeError(f"{self.rig.name}: start the pipeline first")
        return self._graph

    def announcements(self) -> list[str]:
        """One line for each output that people can open while it runs."""
        return [f"{self.rig.name}: {s.announcement}" for s in self._sinks or () if isinstance(s, StartableSink)]

    def raise_error(self) -> None:
        """Raises what ended the run early; unexpected exceptions are wrapped so that the stage is named."""
        error = self.graph.error
        if isinstance(error, FusepipeError):
            raise error
        if error is not None:
            stage = self.graph.supervisor.failed_thread
            raise FusepipeError(f"{stage} failed: {type(error).__name__}: {error}") from error
        require_pairs(self.graph)

    def report(self) -> RunReport:
        """The record of the run so far."""
        graph, seen = self.graph, self.statistics.snapshot()
        seconds = (self._ended_s or time.monotonic()) - self._started_s
        return RunReport(
            rig=self.rig.name,
            ok=graph.error is None,
            interrupted=self.interrupted,
            seconds=round(seconds, 3),
            pairs=seen["states"],
            pairs_per_s=round(seen["fused"] / seconds, 2) if seconds > 0 else 0.0,
            read=seen["read"],
            skipped=dict(graph.pairer.log.skipped),
            notes=list(graph.pairer.log.notes),
            dropped=graph.dropped(),
            skew_ms=seen["skew_ms"],
            latency_ms=seen["latency_ms"],
            sources=self._source_records(),
            registration=self._registration_text,
            drift=None if self._drift is None else self._drift.status(),
            engine=_engine_record(self._fuser),
            written=[asdict(r) for r in graph.sink_reports],
            sinks=graph.sink_states(),
            stage_cpu_s={k: round(v / 1e9, 3) for k, v in seen["stage_cpu_ns"].items()},
            warnings=seen["warnings"],
            error=None if graph.error is None else str(graph.error),
            live=None if self._live_pairer is None else live_record(self._live_pairer, self._sources),
        )

    def _running_record(self) -> dict[str, Any]:
        """The record so far with what is true only now; for the preview, from whatever thread.

        ``depths`` are those of the mailboxes; ``process_cpu_s`` has the engine's own threads too, and other rigs'.
        """
        if self._graph is None:
            return {}
        return {
            **self.report().as_json(),
            "depths": self._graph.depths(),
            "process_cpu_s": round(time.process_time(), 3),
        }

    # -- opening

    def _open(self, stack: ExitStack) -> Fuser:
        """Opens sources and fuser, builds pairer and sinks; ``stack`` closes them if a later step fails."""
        rig = self.rig
        for band, config in ((Band.INFRARED, rig.infrared), (Band.VISIBLE, rig.visible)):
            source = compose.source(config, band, rig.name)
            stack.callback(source.close)
            self._info[band] = source.open()
            self._sources.append(source)
            for note in self._info[band].notes:
                self._warn(f"{band}: {source.label} {note}")
            if away := self._info[band].away:
                self._warn(f"{band}: {source.label} is not there yet: {away}; the run waits for it")
        if rig.visible.count_range is not None and self._info[Band.VISIBLE].bit_depth == 8:
            self._warn("visible: range is for 16-bit pictures; the 8-bit pictures are taken as they are")
        clocks = {source.clock for source in self._sources}
        if len(clocks) > 1:
            kinds = ", ".join(f"{s.band} is {'live' if s.clock == 'wall' else 'recorded'}" for s in self._sources)
            raise ConfigError(f"{rig.name}: a live and a recorded source have no common clock to pair by ({kinds})")
        by_name = compose.pairs_by_name(rig)
        if by_name:
            self._require_common_names()
        elif not self.live:
            self._compare_starts()
        self._pairer = compose.pairer(rig.sync, by_name=by_name)
        self._registration_text = self._describe_registration()
        if self._sinks is None:
            fps = self._info[rig.sync.reference].fps
            live = "wall" in clocks
            context = compose.SinkContext(
                fps, self._overwrite, live, self._warn_and_log, self._running_record, self._engine
            )
            self._sinks = [compose.sink(rig, index, context) for index in range(len(rig.sinks))]
            self._renew = [self._renewal(index, context) for index in range(len(rig.sinks))]
        if not self._sinks:
            raise ConfigError(
                f"{rig.name}: has no sinks, so the result would go nowhere; add e.g. {{file: out/fused.mkv}}"
            )
        compose.require_inputs_kept(self._sources, self._sinks)
        for sink in self._sinks:
            sink.check()
        if self._fuser is None:
            self._fuser = compose.rig_fuser(rig.fusion)
        stack.callback(self._fuser.close)
        return self._fuser

    def _renewal(self, index: int, context: compose.SinkContext) -> SinkFactory | None:
        """Makes the rig's sink of this number again, as the rig says by then."""
        if not compose.renewable(self.rig, index):
            return None
        return lambda: compose.sink(self.rig, index, context, again=True)

    def _engine(self) -> dict[str, Any]:
        return _engine_record(self._fuser)

    def _require_common_names(self) -> None:
        infrared, visible = (set(getattr(source, "names", ())) for source in self._sources)
        if not infrared & visible:
            example = f"{min(infrared)!r} and {min(visible)!r}"
            raise SourceError(
                f"{self.rig.name}: no image of the one folder has the stem of one of the other (such as {example}); "
                "rename them, or pair them in order with sync.pair_by: time"
            )

    def _compare_starts(self) -> None:
        """Containers start where they like; what looks paired may be a constant time apart."""
        infrared, visible = (self._info[band].start_ns for band in (Band.INFRARED, Band.VISIBLE))
        if abs(infrared + self.rig.sync.offset_ns - visible) > self.rig.sync.tolerance_ns:
            self._warn(
                f"infrared starts at {infrared / 1e9:.3f} s and visible at {visible / 1e9:.3f} s of their own times; "
                "if the cameras started together, set sync.offset to the difference"
            )

    def _describe_registration(self) -> str:
        infrared, visible = self._info[Band.INFRARED], self._info[Band.VISIBLE]
        registration = self.rig.registration
        self._aligner = compose.aligner(registration.calibration, registration.plane_distance_m)
        if not (infrared.known and visible.known):
            if registration.outside == "crop":
                raise UsageError(
                    f"{self.rig.name}: registration.outside is crop, and what both cameras see is not known while one "
                    "is away: start again when both deliver, or leave outside at visible"
                )
            return registration.calibration or "known when both cameras deliver"
        sizes = (infrared.width, infrared.height), (visible.width, visible.height)
        self._aligner.alignment(*sizes)  # a bad calibration is known now
        return self._registration_source(*sizes) + self._cropping(sizes[0])

    def _registration_source(self, infrared: tuple[int, int], visible: tuple[int, int]) -> str:
        """What the map comes from, for people; sizes are (width, height)."""
        if self.rig.registration.calibration is not None:
            distance_m = self.rig.registration.plane_distance_m
            return self.rig.registration.calibration + ("" if distance_m is None else f" at {distance_m:g} m")
        if infrared == visible:
            return "none (the images are taken as registered)"
        text = f"{infrared[0]}x{infrared[1]}"
        if abs(infrared[0] * visible[1] / (infrared[1] * visible[0]) - 1) > 0.02:
            self._warn(
                f"infrared {text} and visible {visible[0]}x{visible[1]} differ in "
                "shape and there is no calibration: the infrared image is stretched; set registration.calibration"
            )
        return f"stretched from {text} to {visible[0]}x{visible[1]}"

    def _cropping(self, infrared: tuple[int, int]) -> str:
        """Prepares ``registration.outside: crop``, and says what is left of the picture."""
        if self.rig.registration.outside != "crop":
            return ""
        assert self._aligner is not None
        self._common_view = compose.common_view(self._aligner.alignment, infrared)
        whole = self._output_size()
        kept = self._common_view.at(whole).size
        return "" if kept == whole else f", cropped to {kept[0]}x{kept[1]} of {whole[0]}x{whole[1]}"

    def _warn(self, message: str) -> None:
        self.statistics.warn(message)

    def _warn_and_log(self, message: str) -> None:
        log.warning("%s: %s", self.rig.name, message)
        self._warn(message)

    # -- live

    @property
    def live(self) -> bool:
        """Whether the sources are live cameras; known once they are opened."""
        return any(source.clock == "wall" for source in self._sources)

    def _output_size(self) -> tuple[int, int]:
        """(width, height) of the output as far as it is known: the visible camera's, else a guess until it comes."""
        visible, infrared = self._info[Band.VISIBLE], self._info[Band.INFRARED]
        if self.live and (given := compose.output_size(self.rig)) is not None:
            return given
        known = visible if visible.known else infrared
        return (known.width, known.height) if known.known else CARD_SIZE

    def _engine_size(self) -> tuple[int, int] | None:
        """(height, width) the engine is compiled for before the first pair; ``None`` where it is not known."""
        if not self._info[Band.VISIBLE].known and self.rig.output.size is None:
            return None
        size = self._output_size()
        width, height = size if self._common_view is None else self._common_view.at(size).size
        return height, width

    def _state_changed(self, change: Change) -> None:
        if change.before is None:
            log.info("%s: %s", self.rig.name, change.after)
        else:
            lasted_s = change.lasted_ns / 1e9
            log.info("%s: %s (was %s for %.1f s)", self.rig.name, change.after, change.before, lasted_s)

    def _source_records(self) -> dict[str, dict[str, Any]]:
        return {str(s.band): {"url": s.label, **asdict(self._info[s.band])} for s in self._sources}


def _engine_record(fuser: Fuser | None) -> dict[str, Any]:
    return asdict(fuser.info) if fuser is not None else {}
