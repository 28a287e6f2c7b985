"""Any ONNX network with one input and one output as a function of arrays, in fp32 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import EngineError
from fusepipe.core.text import counted
from fusepipe.engines.backends.openvino.library import frontend
from fusepipe.engines.backends.openvino.network import last_line, shared_core


class OnnxFunction:
    """``input_shape`` and ``output_shape`` are those it was compiled for.

    Free dimensions of the input become 1 (the batch) and ``free_side_px``. Raises :class:`EngineError` for a file that
    OpenVINO cannot read or run, or that has several inputs or outputs.
    """

    def __init__(self, path: Path, free_side_px: int) -> None:
        self._path = path
        try:
            core = shared_core()
            model = _read_onnx(path)
            if len(model.inputs) != 1 or len(model.outputs) != 1:
                found = f"{counted(len(model.inputs), 'input')} and {counted(len(model.outputs), 'output')}"
                raise EngineError(f"{path}: has {found}; a detector has one of each")
            shape = model.inputs[0].get_partial_shape()
            if shape.is_dynamic:
                sides = (d.get_length() if d.is_static else 1 if i == 0 else free_side_px for i, d in enumerate(shape))
                model.reshape(list(sides))
            options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            self._compiled: Any = core.compile_model(model, "CPU", options)
            self.input_shape = tuple(int(side) for side in self._compiled.inputs[0].shape)
            self.output_shape = tuple(int(side) for side in self._compiled.outputs[0].shape)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO cannot run it: {last_line(error)}") from error

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for an input of ``input_shape``."""
        try:
            return np.array(self._compiled(values)[0], np.float32)
        except RuntimeError as error:
            raise EngineError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error


def _read_onnx(path: Path) -> Any:
    """OpenVINO's model. ``read_model`` guesses the format, and what it tries prints errors of its own."""
    reader = frontend.FrontEndManager().load_by_framework("onnx")
    try:
        loaded = reader.load(str(path))
    except (RuntimeError, frontend.GeneralFailure) as error:
        raise EngineError(f"{path}: is not an ONNX file, or is damaged") from error
    try:
        model = reader.convert(loaded)
    except (frontend.GeneralFailure, frontend.OpConversionFailure, frontend.OpValidationFailure) as error:
        raise EngineError(f"{path}: OpenVINO cannot run it: {last_line(error)}") from error
    if not model.inputs and not model.outputs:  # as of an empty file, which is valid protobuf
        raise EngineError(f"{path}: is not an ONNX file: it has no network")
    return model
