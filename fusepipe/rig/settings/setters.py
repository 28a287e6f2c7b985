"""The settings of a rig that can change while it runs, and how each is applied; other keys need a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusepipe.config.schema import FileSink, Rig
from fusepipe.config.view import AnnotationsConfig, HotConfig, ViewConfig
from fusepipe.core.frames import Band
from fusepipe.core.yaml_models import field_keys
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sinks.runner import SinkRunner
from fusepipe.pipeline.stages.state_label import StateLabel
from fusepipe.pipeline.views.output_view import OutputView
from fusepipe.rig.factories.pairing import pairing_rules
from fusepipe.rig.factories.sink_views import change_view
from fusepipe.rig.settings.changes import Apply, apply_changes

PAIRING = ("tolerance", "max_wait", "offset", "on_missing", "max_hold")
RECORDING = ("segment", "segment_size", "max_age", "max_total")


@dataclass(frozen=True, slots=True)
class SettableParts:
    """The parts of a running rig that have settings."""

    set_plane_distance: Callable[[float | None], None]
    pairer: Pairer
    live_pairer: LivePairer | None
    labeller: StateLabel
    runners: Sequence[SinkRunner]
    views: Sequence[OutputView | None] = ()


def apply_settings(old: Rig, new: Rig, parts: SettableParts) -> tuple[Rig, list[str], set[SinkRunner]]:
    """Applies what can change: the rig now in force, a line for each key that differs, and the sinks to restart."""
    restarts: set[SinkRunner] = set()
    running, lines = apply_changes(old, new, setters(old, parts, restarts))
    return running, lines, restarts


def setters(rig: Rig, parts: SettableParts, restarts: set[SinkRunner]) -> dict[str, Apply]:
    """A setter for each key path that can change while the rig runs.

    Sinks that apply their keys only by a restart are added to ``restarts``.
    """
    pairer, live_pairer = parts.pairer, parts.live_pairer
    made: dict[str, Apply] = {
        "registration.plane_distance": lambda new: parts.set_plane_distance(new.registration.plane_distance_m),
        "output.label": _label(parts.labeller, live=live_pairer is not None),
    }
    if isinstance(pairer, TimePairer):
        made |= dict.fromkeys((f"sync.{key}" for key in PAIRING), _pairing(pairer, live_pairer))
    if live_pairer is not None:
        made["infrared.latency"] = lambda new: _latency(live_pairer, Band.INFRARED, new.infrared.latency_ns)
        made["visible.latency"] = lambda new: _latency(live_pairer, Band.VISIBLE, new.visible.latency_ns)
    for index, (config, runner) in enumerate(zip(rig.sinks, parts.runners, strict=False)):
        if runner.restartable:
            made |= {f"sinks[{index}].{key}": _restart(runner, restarts) for key in field_keys(type(config))}
        if index < len(parts.views) and (parts.views[index] is not None or runner.restartable):
            shown = _view(index, runner, parts.views, restarts)
            keys = [*field_keys(ViewConfig), *(f"annotations.{key}" for key in field_keys(AnnotationsConfig))]
            keys += [f"hot.{key}" for key in field_keys(HotConfig)]
            made |= {f"sinks[{index}].view.{key}": shown for key in keys}
        if isinstance(config, FileSink) and config.segmented:
            made |= dict.fromkeys((f"sinks[{index}].{key}" for key in RECORDING), _recording(index, runner))
    return made


def label_enabled(rig: Rig, *, live: bool) -> bool:
    """Whether frames of a degraded pair carry a label."""
    return rig.output.label == "on" or (rig.output.label == "auto" and live)


def _label(labeller: StateLabel, *, live: bool) -> Apply:
    def apply(new: Rig) -> None:
        labeller.on = label_enabled(new, live=live)

    return apply


def _pairing(pairer: TimePairer, live_pairer: LivePairer | None) -> Apply:
    def apply(new: Rig) -> None:
        if live_pairer is None:
            pairer.rules = pairing_rules(new)
        else:
            live_pairer.sync.wanted = pairing_rules(new)

    return apply


def _latency(live_pairer: LivePairer, band: Band, latency_ns: int) -> None:
    live_pairer.clocks[band].latency_ns = latency_ns


def _restart(runner: SinkRunner, restarts: set[SinkRunner]) -> Apply:
    def apply(new: Rig) -> str:
        restarts.add(runner)
        return "applied; this output restarts"

    return apply


def _view(index: int, runner: SinkRunner, views: Sequence[OutputView | None], restarts: set[SinkRunner]) -> Apply:
    def apply(new: Rig) -> str | None:
        if not change_view(new, index, views):
            return None
        restarts.add(runner)
        return "applied; this output restarts"

    return apply


def _recording(index: int, runner: SinkRunner) -> Apply:
    def apply(new: Rig) -> None:
        from fusepipe.pipeline.sinks.files.infrared import InfraredSink
        from fusepipe.pipeline.sinks.files.recording import RecordingSink
        from fusepipe.rig.factories.file_sinks import recording_rules

        config = new.sinks[index]
        # a sink that is restarting is made from the rig, which has the new values by then
        sink = runner.sink.recording if isinstance(runner.sink, InfraredSink) else runner.sink
        if isinstance(config, FileSink) and isinstance(sink, RecordingSink):
            sink.rules = recording_rules(config)

    return apply
