"""What a plan executes, from the engine inspector's JSON in the forms that its versions have, and on the double."""

from __future__ import annotations

import json

import pytest
from helpers.engine_requests import needs_rtx
from helpers.fake_tensorrt import FakeTensorRt

from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt import inspector
from fusepipe.engines.backends.tensorrt.inspector import executed_layers, inspect_plan
from fusepipe.engines.backends.tensorrt.library import load_library


def layer(kind: str, form: str) -> dict[str, object]:
    return {"Name": kind, "LayerType": kind, "Outputs": [{"Name": "x", "Format/Datatype": form}]}


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),  # TensorRT's developer guide
        ("Row major linear FP16 format", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("BF16", "bf16"),
        ("UInt8", "uint8"),
        ("FP8", "fp8"),
        ("N/A due to dynamic shapes", "other"),
    ],
)
def test_types_are_read_as_each_version_writes_them(form: str, precision: str) -> None:
    found = executed_layers(json.dumps({"Layers": [layer("kgen", form), {"Name": "signal", "LayerType": "signal"}]}))
    assert found.by_output == {precision: 1} and found.by_kind == {"kgen": 1, "signal": 1}


@pytest.mark.parametrize("told", ['{"Layers": ["conv1", "conv2"]}', '{"Layers": []}'])
def test_names_alone_are_an_error(told: str) -> None:
    with pytest.raises(EngineError, match="built without detailed profiling information"):
        executed_layers(told)


@pytest.mark.parametrize("told", ["", "[]", "{}"])
def test_an_answer_without_layers_is_an_error(told: str) -> None:
    with pytest.raises(EngineError, match="has no layers"):
        executed_layers(told)


def test_a_plan_is_inspected_for_concrete_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a context that has all shapes, the inspector shows no types."""
    fake, cuda = FakeTensorRt(), FakeCuda()
    monkeypatch.setattr(inspector, "load_library", lambda backend: fake.library)
    found = inspect_plan("tensorrt-rtx", b"plan", (96, 64), host_code=False, cuda=cuda)
    assert found.by_output == {"fp16": 1}
    cuda.close()  # raises if the stream was left
    with pytest.raises(EngineError, match="take another size"):
        inspect_plan("tensorrt-rtx", b"plan", (9600, 6400), host_code=False, cuda=FakeCuda())


def test_a_plan_that_cannot_be_loaded_is_not_inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt(refuses=True)
    fake.log.append("built for another driver")
    monkeypatch.setattr(inspector, "load_library", lambda backend: fake.library)
    with pytest.raises(EngineError, match="cannot load the plan"):
        inspect_plan("tensorrt-rtx", b"plan", (96, 64), host_code=False, cuda=FakeCuda())


@needs_rtx
def test_the_inspector_has_these_calls() -> None:
    trt = load_library("tensorrt-rtx").module
    assert trt.LayerInformationFormat.JSON and trt.TensorIOMode.INPUT and trt.ProfilingVerbosity.DETAILED
    assert hasattr(trt.EngineInspector, "execution_context") and hasattr(trt.EngineInspector, "get_engine_information")
    assert hasattr(trt.ICudaEngine, "create_engine_inspector") and hasattr(trt.ICudaEngine, "get_tensor_mode")
