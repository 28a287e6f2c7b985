"""Which keys of a running rig can be set, and how; all else needs a restart (:mod:`fusepipe.rig.reload`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusepipe.config.schema import FileSink, Rig
from fusepipe.core.frames import Band
from fusepipe.core.yaml_models import field_keys
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.pairing.time_pairer import PairingRules, TimePairer
from fusepipe.pipeline.sinks.files.recording import RecordingSink
from fusepipe.pipeline.sinks.runner import SinkRunner
from fusepipe.pipeline.stages.state_label import StateLabel
from fusepipe.rig import file_sinks as file_outputs
from fusepipe.rig.reload import Apply, take_over

PAIRING = ("tolerance", "max_wait", "offset", "on_missing", "max_hold")
RECORDING = ("segment", "segment_size", "max_age", "max_total")


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a running rig has something to set."""

    set_plane_distance: Callable[[float | None], None]
    pairer: Pairer
    live_pairer: LivePairer | None
    labeller: StateLabel
    runners: Sequence[SinkRunner]


def reconfigure(old: Rig, new: Rig, parts: Parts) -> tuple[Rig, list[str], set[SinkRunner]]:
    """Sets what can be: the rig as it runs now, a line for each key that differs, and the sinks to start anew."""
    anew: set[SinkRunner] = set()
    running, lines = take_over(old, new, setters(old, parts, anew))
    return running, lines, anew


def setters(rig: Rig, parts: Parts, anew: set[SinkRunner]) -> dict[str, Apply]:
    """A setter for each key path that can change while the rig runs.

    Sinks that take their keys over only by being started anew are added to ``anew``.
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
        if runner.renewable:
            made |= {f"sinks[{index}].{key}": _started_anew(runner, anew) for key in field_keys(type(config))}
        if isinstance(config, FileSink) and config.segmented:
            made |= dict.fromkeys((f"sinks[{index}].{key}" for key in RECORDING), _recording(index, runner))
    return made


def label_on(rig: Rig, *, live: bool) -> bool:
    """Whether degraded pictures are labelled."""
    return rig.output.label == "on" or (rig.output.label == "auto" and live)


def pairing_rules(rig: Rig) -> PairingRules:
    sync = rig.sync
    return PairingRules(sync.tolerance_ns, sync.offset_ns, sync.on_missing, sync.max_hold_ns, sync.max_wait_ns)


def _label(labeller: StateLabel, *, live: bool) -> Apply:
    def apply(new: Rig) -> None:
        labeller.on = label_on(new, live=live)

    return apply


def _pairing(pairer: TimePairer, live_pairer: LivePairer | None) -> Apply:
    def apply(new: Rig) -> None:
        pairer.rules = pairing_rules(new)
        if live_pairer is not None:
            live_pairer.set_max_wait(new.sync.max_wait_ns)

    return apply


def _latency(live_pairer: LivePairer, band: Band, latency_ns: int) -> None:
    live_pairer.clocks[band].latency_ns = latency_ns


def _started_anew(runner: SinkRunner, anew: set[SinkRunner]) -> Apply:
    def apply(new: Rig) -> str:
        anew.add(runner)
        return "taken over; this output is started anew"

    return apply


def _recording(index: int, runner: SinkRunner) -> Apply:
    def apply(new: Rig) -> None:
        config = new.sinks[index]
        # one that is being started anew is made from the rig, which has the new values by then
        if isinstance(config, FileSink) and isinstance(runner.sink, RecordingSink):
            runner.sink.rules = file_outputs.rules(config)

    return apply
