"""The ``openvino`` package, imported without its telemetry; every other module takes it from here."""

from __future__ import annotations

from fusepipe.engines.backends.openvino.telemetry import without_telemetry

with without_telemetry():
    import openvino
    import openvino.opset13 as opset

__all__ = ["openvino", "opset"]
