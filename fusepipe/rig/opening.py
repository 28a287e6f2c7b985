"""Opens a rig: its sources, registration, outputs and fuser, before the first frame is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from fusepipe.config.schema import Rig
from fusepipe.config.unsupported import unavailable
from fusepipe.core.counts import MAX_COUNT, RIG_KEYS, CountSettings, counts_warning
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.frames import Band, Size
from fusepipe.core.fuser import Fuser
from fusepipe.pipeline.pairing.name_pairer import NamePairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sinks.files.track_options import TrackOptions
from fusepipe.pipeline.sources.base import ChecksSizes, Source, SourceInfo
from fusepipe.rig.factories import pairing
from fusepipe.rig.factories.certificates import check_certificates
from fusepipe.rig.factories.fusers import lease_fuser
from fusepipe.rig.factories.live_sinks import Warn
from fusepipe.rig.factories.registration import (
    OpenedRegistration,
    manual_alignment,
    open_registration,
    shape_problem,
)
from fusepipe.rig.factories.sink_views import check_temperatures
from fusepipe.rig.factories.sinks import SinkContext, SinkRestart, check_inputs_kept, make_sink, sink_restarts
from fusepipe.rig.factories.sources import make_source
from fusepipe.rig.input_warnings import input_warnings

DEFAULT_SIZE: Size = (640, 480)  # of a live rig's output until a camera delivers, where output.size is not set


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that is open, and what it delivers."""

    source: Source
    info: SourceInfo


@dataclass(frozen=True, slots=True)
class ProgramParts:
    """What a program supplies itself: in place of the rig's own or, as ``more_sinks``, besides them.

    ``sources`` are infrared and visible, not opened yet; ``None`` for the rig's own. The run closes all of them.
    """

    sources: tuple[Source | None, Source | None] = (None, None)
    sinks: Sequence[Sink] | None = None
    more_sinks: Sequence[Sink] = ()
    fuser: Fuser | None = None


@dataclass(frozen=True, slots=True)
class OpenedRig:
    """Everything of a rig that a run needs: opened, checked, and not started.

    ``live``: the sources are live cameras. ``output_size`` is (width, height). ``sink_restarts``: by index, what
    makes the replacement of a failed sink from the rig's settings by then; empty where the caller supplied the sinks;
    ``own_sinks``: the first of ``sinks`` are those of the rig.
    """

    rig: Rig
    infrared: OpenedSource
    visible: OpenedSource
    live: bool
    pairer: NamePairer | TimePairer
    registration: OpenedRegistration
    output_size: Size
    sinks: Sequence[Sink]
    sink_restarts: Mapping[int, SinkRestart]
    own_sinks: bool
    fuser: Fuser

    @property
    def sources(self) -> tuple[Source, Source]:
        """Infrared and visible."""
        return self.infrared.source, self.visible.source

    @property
    def engine_size(self) -> tuple[int, int] | None:
        """(height, width) to compile the engine for; ``None`` where it is not known before the first pair."""
        if not self.visible.info.known and self.rig.output.size is None:
            return None
        view = self.registration.common_view
        width, height = self.output_size if view is None else view.at(self.output_size).size
        return height, width

    def source_records(self, telemetry: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """Label and properties of both sources by band, as plain values; ``telemetry`` of the infrared one, if any."""
        records = {
            str(opened.source.band): {"url": opened.source.label, **asdict(opened.info)}
            for opened in (self.infrared, self.visible)
        }
        if telemetry is not None:
            records[str(Band.INFRARED)]["telemetry"] = telemetry
        return records


def check_available(rig: Rig) -> None:
    """Raises :class:`ConfigError` for keys that are reserved; a rig made in Python skips the file's checks."""
    if problems := unavailable(rig):
        raise ConfigError(problems=problems)


def open_rig(
    rig: Rig,
    context: SinkContext,
    stack: ExitStack,
    *,
    warn: Warn,
    parts: ProgramParts = ProgramParts(),
) -> OpenedRig:
    """Checks certificates, opens sources, registration and fuser, checks the outputs; ``stack`` closes what was opened.

    ``context`` is completed with the frame rate and whether the rig is live. ``warn`` gets warnings for the run's
    report. Raises :class:`SourceError`, :class:`ConfigError`,
    :class:`SinkError` or :class:`EngineError`: the engine comes last, since compiling it takes longest.
    """
    if parts.sinks is None:
        check_certificates(rig, warn)
    infrared = _open_source(rig, Band.INFRARED, parts.sources[0], warn, stack)
    visible = _open_source(rig, Band.VISIBLE, parts.sources[1], warn, stack)
    sources, live = (infrared.source, visible.source), infrared.source.clock == "wall"
    if infrared.info.known and parts.sinks is None:
        check_temperatures(rig, infrared.info.radiometry)
    for warning in input_warnings(
        sources, infrared.info, visible.info, same_part=rig.infrared.crop == rig.visible.crop
    ):
        warn(warning)
    if text := _visible_counts_warning(rig, visible.info):
        warn(text)
    if rig.visible.count_range is not None and visible.info.bit_depth == 8:
        warn("visible: range is for 16-bit images; the 8-bit images are used unchanged")
    pairing.check_clocks(rig, sources)
    by_name, infrared, visible = _by_name_or_times(rig, infrared, visible, warn)
    measured = infrared.info.timed and visible.info.timed
    if not by_name and not live and (text := pairing.start_times_warning(rig, infrared.info, visible.info)):
        warn(text)
    output = output_size(rig, infrared.info, visible.info, live=live)
    registration = open_registration(rig, infrared.info, visible.info, output, warn)
    _require_calibrated_shapes(rig, infrared, visible)
    restarts: Mapping[int, SinkRestart] = {}
    sinks = parts.sinks
    if sinks is None:
        reference = infrared if rig.sync.reference is Band.INFRARED else visible
        own = replace(
            context,
            fps=reference.info.fps,
            infrared=_track_options(infrared.info, live=live),
            live=live,
            alignment=manual_alignment(rig, registration.aligner, output),
        )
        sinks = [make_sink(rig, index, own) for index in range(len(rig.sinks))]
        restarts = sink_restarts(rig, own)
    sinks = [*sinks, *parts.more_sinks]
    _check_outputs(rig, sources, sinks)
    pairer = pairing.make_pairer(rig, by_name=by_name, measured=measured)
    opened_fuser = lease_fuser(rig.fusion) if parts.fuser is None else parts.fuser
    stack.callback(opened_fuser.close)
    own_sinks = parts.sinks is None
    return OpenedRig(
        rig, infrared, visible, live, pairer, registration, output, sinks, restarts, own_sinks, opened_fuser
    )


def _track_options(info: SourceInfo, *, live: bool) -> TrackOptions:
    """What an infrared track needs to know of the camera; of 8-bit images only a frame has the value range."""
    size = (info.width, info.height) if info.bit_depth > 8 else (0, 0)
    return TrackOptions(not live, info.fps, size, info.bit_depth, info.radiometry)


def _by_name_or_times(
    rig: Rig, infrared: OpenedSource, visible: OpenedSource, warn: Warn
) -> tuple[bool, OpenedSource, OpenedSource]:
    """Whether to pair by name; the sources, with the times of image files where they are paired by those."""
    sources = (infrared.source, visible.source)
    names_first = pairing.pairs_by_name(rig)
    if names_first and pairing.match_names(rig, sources, warn):
        return True, infrared, visible
    times = None if rig.sync.pair_by == "order" else pairing.image_times(sources)
    if times is None:
        return False, infrared, visible
    if names_first:
        warn(f"the folders have no file stem in common; paired by the times in {times[0].origin} and {times[1].origin}")
    infrared, visible = (
        replace(one, info=found.source.use_times(found.times_ns, one.info))
        for one, found in zip((infrared, visible), times, strict=True)
    )
    return False, infrared, visible


def _open_source(rig: Rig, band: Band, own: Source | None, warn: Warn, stack: ExitStack) -> OpenedSource:
    config = rig.infrared if band is Band.INFRARED else rig.visible
    source = make_source(config, band, rig.name) if own is None else own
    stack.callback(source.close)
    info = source.open()
    _check_range(config.value_range, band, info)
    for note in info.notes:
        warn(f"{band}: {source.label} {note}")
    if info.offline_reason:
        warn(f"{band}: {source.label} was not available at the start: {info.offline_reason}; a run waits for it")
    return OpenedSource(source, info)


def _require_calibrated_shapes(rig: Rig, infrared: OpenedSource, visible: OpenedSource) -> None:
    """A live camera that connects later, with another shape, is left out and does not end the run."""
    # the images of a visible camera that is known are scaled to the size that it has now
    for source, info in [
        (one.source, one.info) for one in (infrared, visible) if one is infrared or not one.info.known
    ]:
        if not isinstance(source, ChecksSizes) or (problem := shape_problem(rig.registration, source.band)) is None:
            continue
        if info.known and (text := problem((info.width, info.height))):
            raise UsageError(f"the {source.band} camera delivers {text}: another aspect ratio; calibrate again")
        source.require(problem)


def count_settings(rig: Rig, band: Band, info: SourceInfo) -> CountSettings:
    """The names of the settings of 16-bit counts where the user sets them."""
    settings = RIG_KEYS
    if rig.from_options:
        prefix = "--" if band is Band.INFRARED else "--visible-"
        settings = CountSettings(f"{prefix}range {{low}} {{high}}", f"{prefix}byte-order {{order}}")
    return replace(settings, read_order=info.byte_order)


def _check_range(span: tuple[float, float] | None, band: Band, info: SourceInfo) -> None:
    """Raises :class:`ConfigError` for a ``range`` of values, such as degrees, of a source of counts."""
    if span is not None and not info.mapped and not all(0 <= value == round(value) for value in span):
        raise ConfigError(
            f"{band}: range {span[0]:g} to {span[1]:g}: counts are whole numbers from 0 to {MAX_COUNT}; other values "
            "are for images in floating point or of signed integers"
        )


def _visible_counts_warning(rig: Rig, info: SourceInfo) -> str | None:
    """Visible counts become 8-bit luma when they are read, unlike infrared ones, which the tone mapping checks."""
    if info.levels is None:
        return None
    return counts_warning(
        "visible", info.levels, rig.visible.count_range or (0, 65535), count_settings(rig, Band.VISIBLE, info)
    )


def _check_outputs(rig: Rig, sources: Sequence[Source], sinks: Sequence[Sink]) -> None:
    if not sinks:
        raise ConfigError(f"{rig.name}: has no sinks, so the result would go nowhere; add e.g. {{file: out/fused.mkv}}")
    check_inputs_kept(sources, sinks)
    for sink in sinks:
        sink.check()


def output_size(rig: Rig, infrared: SourceInfo, visible: SourceInfo, *, live: bool) -> Size:
    """``output.size`` of a live rig, else the visible camera's size, else the infrared one's, else a default."""
    if live and rig.output.size is not None:
        width, _, height = rig.output.size.partition("x")
        return int(width), int(height)
    known = visible if visible.known else infrared
    return (known.width, known.height) if known.known else DEFAULT_SIZE
