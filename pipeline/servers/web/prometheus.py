"""Prometheus metrics of the rigs. Pure: records in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

# name, help, label, key of the record: counters that are mappings in the record
_COUNTERS = (
    ("fusepipe_frames_read", "Frames read from a source.", "band", "read"),
    ("fusepipe_pairs", "Pairs by state.", "state", "pairs"),
    ("fusepipe_skipped", "Frames that did not become part of a pair, by reason.", "reason", "skipped"),
    ("fusepipe_dropped", "Frames dropped because a stage was late, by mailbox.", "mailbox", "dropped"),
    ("fusepipe_stage_cpu_seconds", "CPU time of the thread of a stage.", "stage", "stage_cpu_s"),
)
# percentiles over the whole run; milliseconds in the record
_DISTRIBUTIONS = (
    ("fusepipe_skew_seconds", "Absolute difference of capture times within a pair.", "skew_ms"),
    ("fusepipe_latency_seconds", "From the arrival of the later frame of a pair to its output.", "latency_ms"),
)


class _Records(Collector):
    def __init__(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        self._records = records

    def collect(self) -> Iterator[Metric]:
        for name, text, label, key in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["rig", label])
            for rig, record in self._records.items():
                for value, count in (record.get(key) or {}).items():
                    counter.add_metric([rig, str(value)], count)
            yield counter
        for name, text, key in _DISTRIBUTIONS:
            gauge = GaugeMetricFamily(name, text, labels=["rig", "quantile"])
            for rig, record in self._records.items():
                for quantile, percentile in (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"), ("1", "max")):
                    if percentile in (record.get(key) or {}):
                        gauge.add_metric([rig, quantile], record[key][percentile] / 1e3)
            yield gauge
        yield from self._sinks()
        yield self._gauge("fusepipe_queue_depth", "Frames waiting in a mailbox.", "mailbox", "depths")
        yield from self._singles()
        yield from self._drift()

    def _sinks(self) -> Iterable[Metric]:
        counts = (
            ("fusepipe_sink_failures", "Failures of an output.", "failures"),
            ("fusepipe_sink_restarts", "Restarts of an output after failures.", "restarts"),
            ("fusepipe_sink_missed", "Frames that an output missed while it was down.", "missed"),
        )
        families = [CounterMetricFamily(name, text, labels=["rig", "sink"]) for name, text, _ in counts]
        up = GaugeMetricFamily("fusepipe_sink_up", "1 while an output accepts frames.", labels=["rig", "sink"])
        for rig, record in self._records.items():
            for sink in record.get("sinks", ()):
                labels = [rig, str(sink["sink"])]
                up.add_metric(labels, int(sink["up"]))
                for family, (_, _, key) in zip(families, counts, strict=True):
                    family.add_metric(labels, sink[key])
        return [*families, up]

    def _gauge(self, name: str, text: str, label: str, key: str) -> Metric:
        gauge = GaugeMetricFamily(name, text, labels=["rig", label])
        for rig, record in self._records.items():
            for value, number in (record.get(key) or {}).items():
                gauge.add_metric([rig, value], number)
        return gauge

    def _singles(self) -> Iterable[Metric]:
        singles = (
            ("fusepipe_last_frame_age_seconds", "Time since the last output frame.", "last_frame_age_s"),
            ("fusepipe_run_seconds", "Time since the start of the run.", "seconds"),
            ("fusepipe_preview_clients", "Viewers of the preview now.", "clients"),
            ("fusepipe_preview_video_clients", "Viewers of the preview over WebRTC.", "video_clients"),
        )
        for name, text, key in singles:
            gauge = GaugeMetricFamily(name, text, labels=["rig"])
            for rig, record in self._records.items():
                if record.get(key) is not None:
                    gauge.add_metric([rig], record[key])
            yield gauge

    def _drift(self) -> Iterable[Metric]:
        """The alignment of rigs with a drift watch."""
        watched = {rig: record["drift"] for rig, record in self._records.items() if record.get("drift")}
        state = GaugeMetricFamily("fusepipe_drift_state", "1 for the current state.", labels=["rig", "state"])
        for rig, drift in watched.items():
            for name in ("ok", "suspect", "lost"):
                state.add_metric([rig, name], float(drift["state"] == name))
        yield state
        for name, text, key in (
            ("fusepipe_drift_offset_pixels", "Offset of the infrared image from the calibration.", "offset_px"),
            ("fusepipe_drift_corrected_pixels", "Correction of the offset.", "corrected_px"),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["rig"])
            for rig, drift in watched.items():
                gauge.add_metric([rig], drift[key])
            yield gauge
        for name, text, key in (
            ("fusepipe_drift_checks", "Measurements of the alignment.", "checks"),
            ("fusepipe_drift_blind", "Measurements without enough image detail.", "blind"),
        ):
            counter = CounterMetricFamily(name, text, labels=["rig"])
            for rig, drift in watched.items():
                counter.add_metric([rig], drift[key])
            yield counter


def prometheus_text(records: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The metrics of all rigs; ``records`` maps a rig to its ``RunReport.as_json()`` and the preview's counters."""
    registry = CollectorRegistry()
    registry.register(_Records(records))
    return generate_latest(registry)
