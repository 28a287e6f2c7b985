"""Prometheus metrics of the rigs. Pure: records in, text out.

The tables name each metric once; docs/monitoring/ has alert rules and a dashboard that use them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from fusepipe.core.frames import PairState
from fusepipe.core.rig_state import RigState
from fusepipe.core.version import __version__

Record = Mapping[str, Any]
Values = Iterable[tuple[str, float]]
PERCENTILES = (("50", "p50"), ("95", "p95"), ("99", "p99"), ("100", "max"))  # "quantile" is for summaries


@dataclass(frozen=True, slots=True)
class _Rows:
    """A metric with the label ``rig`` and another one: ``values`` are (value of that label, number) of a record."""

    name: str
    text: str
    label: str
    values: Callable[[Record], Values]


@dataclass(frozen=True, slots=True)
class _One:
    """A metric with the label ``rig`` only; ``None``: absent."""

    name: str
    text: str
    value: Callable[[Record], float | None]


def _mapping(*path: str) -> Callable[[Record], Values]:
    """The entries of a mapping within the record; none where it is absent."""
    return lambda record: list(_at(record, *path).items())


def _number(*path: str) -> Callable[[Record], float | None]:
    def number(record: Record) -> float | None:
        found = _at(record, *path[:-1]).get(path[-1])
        return None if found is None else float(found)

    return number


def _at(record: Record, *path: str) -> Mapping[str, Any]:
    for key in path:
        record = record.get(key) or {}
    return record


def _sinks(key: str) -> Callable[[Record], Values]:
    return lambda record: [(str(sink["sink"]), float(sink.get(key) or 0)) for sink in record.get("sinks") or ()]


def _sink_rates(record: Record) -> Values:
    rates = _at(record, "recent").get("sinks") or ()
    return [
        (str(sink["sink"]), rate["frames_per_s"]) for sink, rate in zip(record.get("sinks") or (), rates, strict=False)
    ]


def _cameras(key: str) -> Callable[[Record], Values]:
    def values(record: Record) -> Values:
        cameras = _at(record, "live", "cameras")
        return [(band, float(camera[key])) for band, camera in cameras.items() if camera.get(key) is not None]

    return values


def _telemetry(read: Callable[[dict[str, Any]], float | None]) -> Callable[[Record], Values]:
    """A value of the telemetry of each camera that has some."""

    def values(record: Record) -> Values:
        cores = {band: source["telemetry"] for band, source in _at(record, "sources").items() if "telemetry" in source}
        found = {band: read(core) for band, core in cores.items()}
        return [(band, float(value)) for band, value in found.items() if value is not None]

    return values


def _camera_failures(record: Record) -> Values:
    cameras = _at(record, "live", "cameras")
    return [(band, float(sum(camera["failures"].values()))) for band, camera in cameras.items() if "failures" in camera]


def _one_of(states: Iterable[str], *path: str) -> Callable[[Record], Values]:
    """1 for the present state and 0 for the others; none where it is not known."""

    def values(record: Record) -> Values:
        now = _at(record, *path[:-1]).get(path[-1])
        return [] if now is None else [(state, float(state == now)) for state in states]

    return values


def _recent(quantity: str) -> Callable[[Record], Values]:
    def values(record: Record) -> Values:
        found = _at(record, "recent", quantity)
        return [(percentile, found[key] / 1e3) for percentile, key in PERCENTILES if key in found]

    return values


def _stage_seconds(record: Record) -> Values:
    return [(stage, value / 1e3) for stage, value in _at(record, "recent", "stage_ms").items()]


def _dropped(record: Record) -> Values:
    """Also mailboxes that have dropped nothing: a rate needs the zero before it."""
    return list({**dict.fromkeys(_at(record, "depths"), 0), **_at(record, "dropped")}.items())


def _lighter(record: Record) -> Values:
    model = _at(record, "overload").get("lighter_model")
    return [] if model is None else [(model, 1.0)]


def _overloaded(record: Record) -> float | None:
    overload = record.get("overload")
    return None if overload is None else float(overload["message"] is not None)


_COUNTERS = (
    _Rows("fusepipe_frames_read", "Frames read from a source.", "band", _mapping("read")),
    _Rows("fusepipe_pairs", "Pairs that have left the fusion stage, by state.", "state", _mapping("pairs")),
    _Rows("fusepipe_frames_out", "Frames that an output has accepted.", "sink", _sinks("frames")),
    _Rows("fusepipe_skipped", "Frames that did not become part of a pair, by reason.", "reason", _mapping("skipped")),
    _Rows("fusepipe_dropped", "Frames dropped because a stage was late, by mailbox.", "mailbox", _dropped),
    _Rows(
        "fusepipe_stage_cpu_seconds",
        "CPU time of a stage, on Linux with the threads of engines and codecs.",
        "stage",
        _mapping("stage_cpu_s"),
    ),
    _Rows("fusepipe_sink_failures", "Failures of an output.", "sink", _sinks("failures")),
    _Rows("fusepipe_sink_restarts", "Restarts of an output after failures.", "sink", _sinks("restarts")),
    _Rows("fusepipe_sink_missed", "Frames that an output missed while it was down.", "sink", _sinks("missed")),
    _Rows("fusepipe_camera_connections", "Connections to a live camera.", "band", _cameras("connections")),
    _Rows("fusepipe_camera_freezes", "Times that the image of a live camera froze.", "band", _cameras("freezes")),
    _Rows(
        "fusepipe_camera_flat_field_corrections",
        "Flat-field corrections that the telemetry of a thermal camera has reported.",
        "band",
        _telemetry(lambda core: core["ffcs"]),
    ),
    _Rows("fusepipe_camera_failures", "Failures of a live camera.", "band", _camera_failures),
)
_GAUGES = (
    _Rows("fusepipe_rig_state", "1 for the state of the rig.", "state", _one_of(tuple(RigState), "status", "state")),
    _Rows(
        "fusepipe_pair_state",
        "1 for the state of the newest frames of a live rig.",
        "state",
        _one_of(tuple(PairState), "live", "state"),
    ),
    _Rows("fusepipe_camera_up", "1 while new images of a live camera arrive.", "band", _cameras("up")),
    _Rows("fusepipe_camera_frozen_seconds", "Age of an image that is repeated, else 0.", "band", _cameras("frozen_s")),
    _Rows(
        "fusepipe_camera_flat_field_correction",
        "1 while the telemetry of a thermal camera reports a flat-field correction.",
        "band",
        _telemetry(lambda core: core["ffc"] == "in progress"),
    ),
    _Rows(
        "fusepipe_camera_sensor_celsius",
        "Temperature of a thermal camera's sensor, from its telemetry.",
        "band",
        _telemetry(lambda core: core["fpa_c"]),
    ),
    _Rows("fusepipe_sink_up", "1 while an output accepts frames.", "sink", _sinks("up")),
    _Rows("fusepipe_frames_out_per_second", "Frames that an output accepts, over ten seconds.", "sink", _sink_rates),
    _Rows("fusepipe_queue_depth", "Frames waiting in a mailbox.", "mailbox", _mapping("depths")),
    _Rows("fusepipe_stage_frame_seconds", "Mean time of a stage per frame, over ten seconds.", "stage", _stage_seconds),
    _Rows("fusepipe_latency_recent_seconds", "Latency over the last minute.", "percentile", _recent("latency_ms")),
    _Rows("fusepipe_skew_recent_seconds", "Skew over the last minute.", "percentile", _recent("skew_ms")),
    _Rows("fusepipe_lighter_model", "1 for the lighter model of an overloaded rig.", "model", _lighter),
    _Rows(
        "fusepipe_drift_state",
        "1 for the current state.",
        "state",
        _one_of(("ok", "suspect", "lost"), "drift", "state"),
    ),
)
_SINGLE_GAUGES = (
    _One("fusepipe_ready", "1 if a frame came out within five seconds.", _number("ready")),
    _One("fusepipe_overloaded", "1 while a live rig is too slow.", _overloaded),
    _One(
        "fusepipe_pairs_made_per_second",
        "Pairs that pairing makes, over ten seconds: what should come out.",
        _number("recent", "paired_per_s"),
    ),
    _One("fusepipe_last_frame_age_seconds", "Time since the last output frame.", _number("last_frame_age_s")),
    _One("fusepipe_run_seconds", "Time since the start of the run.", _number("seconds")),
    _One("fusepipe_preview_clients", "Viewers of the preview now.", _number("clients")),
    _One("fusepipe_preview_video_clients", "Viewers of the preview over WebRTC.", _number("video_clients")),
    _One(
        "fusepipe_drift_offset_pixels",
        "Offset of the infrared image from the calibration.",
        _number("drift", "offset_px"),
    ),
    _One("fusepipe_drift_corrected_pixels", "Correction of the offset.", _number("drift", "corrected_px")),
)
_SINGLE_COUNTERS = (
    _One("fusepipe_overload_seconds", "Time in which a live rig was too slow.", _number("overload", "seconds")),
    _One("fusepipe_failed_starts", "Attempts to start the rig that failed.", _number("status", "failed_starts")),
    _One("fusepipe_drift_checks", "Measurements of the alignment.", _number("drift", "checks")),
    _One("fusepipe_drift_blind", "Measurements without enough image detail.", _number("drift", "blind")),
)
# name, help, key of recent.histograms
_HISTOGRAMS = (
    ("fusepipe_latency_seconds", "From the arrival of the later frame of a pair to its output.", "latency"),
    ("fusepipe_skew_seconds", "Absolute difference of capture times within a fused pair.", "skew"),
)


class _Records(Collector):
    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("fusepipe_build_info", "Versions, as labels; always 1.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1.0)
        yield build
        for family, rows in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for row in rows:
                metric = family(row.name, row.text, labels=["rig", row.label])
                for rig, record in self._records.items():
                    for value, number in row.values(record):
                        metric.add_metric([rig, str(value)], number)
                yield metric
        for family, ones in ((CounterMetricFamily, _SINGLE_COUNTERS), (GaugeMetricFamily, _SINGLE_GAUGES)):
            for one in ones:
                metric = family(one.name, one.text, labels=["rig"])
                for rig, record in self._records.items():
                    if (found := one.value(record)) is not None:
                        metric.add_metric([rig], found)
                yield metric
        yield from self._histograms()

    def _histograms(self) -> Iterator[Metric]:
        for name, text, key in _HISTOGRAMS:
            histogram = HistogramMetricFamily(name, text, labels=["rig"])
            for rig, record in self._records.items():
                if found := _at(record, "recent", "histograms", key):
                    buckets = [("+Inf" if bound is None else str(bound), count) for bound, count in found["buckets"]]
                    histogram.add_metric([rig], buckets, found["sum_s"])
            yield histogram


def prometheus_text(records: Mapping[str, Record]) -> bytes:
    """The metrics of the process and of all rigs; ``records`` maps a rig to its record, as ``/api/rigs`` has it."""
    registry = CollectorRegistry()
    registry.register(_Records(records))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
