"""The public face of a rig's run.

    report = Pipeline("rigs.yaml", "demo").run()

:meth:`Pipeline.start`, :meth:`~Pipeline.wait` and :meth:`~Pipeline.drain` are the same in steps, for
programs that run several rigs or do other work meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.frames import Band, FusedFrame
from fusepipe.core.fuser import Fuser
from fusepipe.core.rig_state import RigStatus
from fusepipe.pipeline.graph import Graph
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.pairing.name_pairer import NamePairer
from fusepipe.pipeline.run_limits import RunLimits
from fusepipe.pipeline.sinks.base import Sink, StartableSink
from fusepipe.pipeline.sinks.program.callback import CallbackSink
from fusepipe.pipeline.sources.base import Source
from fusepipe.rig.factories.pairing import pairing_description
from fusepipe.rig.factories.sinks import SinkContext
from fusepipe.rig.opening import OpenedRig, ProgramParts, check_available, open_rig
from fusepipe.rig.report.dry_run import DryRun
from fusepipe.rig.report.run_report import RunReport
from fusepipe.rig.run import RigRun

log = logging.getLogger(__name__)


def load_rig(path: str | Path, name: str | None = None) -> Rig:
    """The rig ``name`` of a rigs.yaml; ``name`` may be left out where the file has only one.

    Raises :class:`ConfigError` for an invalid file, :class:`UsageError` where the name is needed.
    """
    document = load_rig_file(Path(path))
    rigs = document.select(None if name is None else [name])
    if len(rigs) != 1:
        raise UsageError(f"{path}: has {len(rigs)} rigs ({', '.join(r.name for r in rigs)}); name one")
    return rigs[0]


def _rig(rig: Rig | str | Path, name: str | None) -> Rig:
    """The rig itself, or that of a file; raises :class:`UsageError` for anything else."""
    if isinstance(rig, str | Path):
        return load_rig(rig, name)
    if not isinstance(rig, Rig):
        raise UsageError(f"a pipeline runs a rig or a rigs.yaml, not {rig!r}")
    if name not in (None, rig.name):
        raise UsageError(f"the name {name!r} is for a rigs.yaml; this rig is {rig.name!r}")
    return rig


def _check_sources(sources: tuple[Source | None, Source | None]) -> None:
    """Raises :class:`UsageError` where the two are not one of each band, infrared first."""
    for band, source in zip((Band.INFRARED, Band.VISIBLE), sources, strict=True):
        if source is not None and source.band != band:
            raise UsageError(f"the {band} source has band = {source.band!r}; sources are (infrared, visible)")


class Pipeline:
    """One run of one rig, of a :class:`Rig` or of a rigs.yaml with the rig's ``name``; not reusable.

    ``on_frame`` is called with each fused frame, besides the rig's sinks, in a thread of its own: recordings wait for
    it, live rigs drop frames meanwhile; an exception of it ends the run. ``sources`` (infrared, visible), ``sinks`` and
    ``fuser`` replace the rig's own where given; the pipeline closes them, and does not restart such sinks when they
    fail. Without ``synced``, a power failure may cost all of an unfinished recording, instead of the time between two
    flushes. ``restarted``: a process that ran the rig before has failed; what it has written is kept, and new files and
    folders of images get a number. ``max_pairs`` and ``duration_s`` (of capture time) end the run early. With
    ``strict``, a run that fused under half of the possible pairs is an error; one that fused none always is.
    Raises :class:`ConfigError` for a rig with keys that are not available, :class:`UsageError` for anything else
    than a rig.
    """

    def __init__(
        self,
        rig: Rig | str | Path,
        name: str | None = None,
        *,
        overwrite: bool = False,
        max_pairs: int | None = None,
        duration_s: float | None = None,
        strict: bool = False,
        on_frame: Callable[[FusedFrame], object] | None = None,
        sources: tuple[Source | None, Source | None] = (None, None),
        sinks: Sequence[Sink] | None = None,
        fuser: Fuser | None = None,
        synced: bool = True,
        restarted: bool = False,
    ) -> None:
        rig = _rig(rig, name)
        check_available(rig)
        _check_sources(sources)
        self.statistics = RunStatistics()
        self._rig, self._strict, self._overwrite = rig, strict, overwrite
        self.max_pairs, self.duration_s = max_pairs, duration_s
        self._on_frame, self._sources, self._sinks, self._fuser = on_frame, sources, sinks, fuser
        self._sink_context = SinkContext(
            overwrite=overwrite,
            restarted=restarted,
            synced=synced,
            warn=self._warn_and_log,
            report=self._preview_record,
            engine=self._engine_record,
        )
        self._opened: OpenedRig | None = None
        self._unused = ExitStack()  # what is open and not yet owned by a run
        self._run: RigRun | None = None

    def again(self, rig: Rig) -> Pipeline:
        """A pipeline with the same options, for another attempt after :meth:`open` has failed."""
        return Pipeline(
            rig,
            overwrite=self._overwrite,
            max_pairs=self.max_pairs,
            duration_s=self.duration_s,
            strict=self._strict,
            on_frame=self._on_frame,
            sources=self._sources,
            sinks=self._sinks,
            fuser=self._fuser,
            synced=self._sink_context.synced,
            restarted=self._sink_context.restarted,
        )

    # -- life

    def dry_run(self) -> DryRun:
        """Opens the inputs, compiles the engine, checks the outputs, writes nothing, and closes everything."""
        with ExitStack() as stack:
            opened = self._open(stack)
            if opened.engine_size is not None:
                opened.fuser.prepare(*opened.engine_size)
            return DryRun(
                opened.rig.name,
                opened.source_records(),
                pairing_description(
                    by_name=isinstance(opened.pairer, NamePairer),
                    measured=opened.infrared.info.timed and opened.visible.info.timed,
                ),
                opened.registration.description,
                asdict(opened.fuser.info),
                [sink.label for sink in opened.sinks],
                list(self.statistics.warnings),
            )

    def run(self) -> RunReport:
        """Runs to the end and returns the report; raises what went wrong. Ctrl-C finalises the files first."""
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
        """Opens inputs and engine and checks the outputs; raises :class:`FusepipeError` for what cannot work."""
        if self._opened is None:
            with ExitStack() as stack:
                self._opened = self._open(stack)
                self._unused = stack.pop_all()

    def _open(self, stack: ExitStack) -> OpenedRig:
        callback = () if self._on_frame is None else (CallbackSink(self._on_frame),)
        parts = ProgramParts(self._sources, self._sinks, callback, self._fuser)
        return open_rig(self._rig, self._sink_context, stack, warn=self.statistics.warn, parts=parts)

    def start(self) -> None:
        """Starts the threads; calls :meth:`open` first where that was not done.

        Raises :class:`UsageError` where it was started before.
        """
        if self._run is not None:
            raise UsageError(f"{self._rig.name}: this pipeline was run before; make another one to run again")
        self.open()
        if self.live:
            self._log_warnings()
        limits = RunLimits(self.max_pairs, None if self.duration_s is None else round(self.duration_s * 1e9))
        run = RigRun(self.opened, limits, self.statistics, self._warn_and_log)
        self._run = run
        self._unused.pop_all()  # from here on the graph's threads close what was opened
        run.start()

    def close(self) -> None:
        """Closes what :meth:`open` has opened, unless the run was started: its threads do that then."""
        self._unused.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """``False`` when it still runs after ``timeout_s``. Does not raise the run's own error."""
        return self._running.wait(timeout_s)

    def drain(self) -> None:
        """Ends the inputs; frames in the pipeline are still written."""
        self.graph.drain()

    def interrupt(self) -> None:
        """As :meth:`drain`, and the report says that the run was interrupted; a second call aborts."""
        self._running.interrupt()

    def raise_error(self) -> None:
        """Raises what ended the run early, and for a run that fused nothing, or too little with ``strict``.

        Unexpected exceptions are wrapped to name the stage.
        """
        self._running.raise_error()
        if self._strict and not self.interrupted and (text := self.report().shortfall):
            raise FusepipeError(f"{self._rig.name}: {text}")

    # -- settings

    def set_plane_distance(self, distance_m: float | None) -> None:
        """Aligns the images at another distance from the next frame on (``None``: the calibration's own).

        Raises :class:`UsageError` where the calibration cannot be used at that distance; nothing changes then.
        """
        self._running.set_plane_distance(distance_m)

    def reconfigure(self, rig: Rig) -> list[str]:
        """Applies the settings of another version of the rig that can change while it runs.

        Returns a line for each key that differs: its new value, or that it needs a restart.
        """
        return self._running.reconfigure(rig)

    # -- state

    @property
    def rig(self) -> Rig:
        """The configuration in force; :meth:`reconfigure` changes it."""
        return self._rig if self._run is None else self._run.rig

    @property
    def opened(self) -> OpenedRig:
        """Raises :class:`FusepipeError` before :meth:`open`."""
        if self._opened is None:
            raise FusepipeError(f"{self._rig.name}: open the pipeline first")
        return self._opened

    @property
    def _running(self) -> RigRun:
        if self._run is None:
            raise FusepipeError(f"{self._rig.name}: start the pipeline first")
        return self._run

    @property
    def graph(self) -> Graph:
        """The running graph; raises :class:`FusepipeError` before :meth:`start`."""
        return self._running.graph

    @property
    def live(self) -> bool:
        """Whether the sources are live cameras; known once the pipeline is open."""
        return self.opened.live

    @property
    def interrupted(self) -> bool:
        """Whether :meth:`interrupt` was called."""
        return self._run is not None and self._run.interrupted

    @property
    def finished(self) -> bool:
        """Whether every thread has ended."""
        return self.graph.supervisor.finished

    def status(self) -> RigStatus:
        """What the rig does now and why; from any thread."""
        return self._running.status()

    def announcements(self) -> list[str]:
        """One line for each output that can be opened while it runs, with its address."""
        return [f"{self._rig.name}: {s.announcement}" for s in self.opened.sinks if isinstance(s, StartableSink)]

    def report(self) -> RunReport:
        """The figures of the run so far."""
        return self._running.report()

    def _preview_record(self) -> dict[str, Any]:
        return {} if self._run is None else self._run.preview_record()

    def _engine_record(self) -> dict[str, Any]:
        return {} if self._opened is None else asdict(self._opened.fuser.info)

    def _log_warnings(self) -> None:
        """Logs what was found while opening: the summary of a live rig may be months away.

        Why a camera is not there its source has logged.
        """
        offline = [one.info.offline_reason for one in (self.opened.infrared, self.opened.visible)]
        for text in list(self.statistics.warnings):
            if not any(reason and reason in text for reason in offline):
                log.warning("%s: %s", self._rig.name, text)

    def _warn_and_log(self, message: str) -> None:
        log.warning("%s: %s", self._rig.name, message)
        self.statistics.warn(message)
