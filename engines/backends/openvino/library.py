"""The ``openvino`` package, imported without its telemetry; every other module takes it from here."""

from __future__ import annotations

from fusepipe.core.imports import without_collection
from fusepipe.engines.backends.openvino.telemetry import without_telemetry

with without_telemetry(), without_collection():
    import openvino
    import openvino.frontend as frontend
    import openvino.opset13 as opset

__all__ = ["frontend", "openvino", "opset"]
