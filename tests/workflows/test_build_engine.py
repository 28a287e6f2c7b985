"""``fusepipe build-engine`` as a user calls it, and its engines on a machine that only runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import IMAGES, PAIRS, build_request, file_names, needs_rtx, run, write_images

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.engines import choose
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.builder.build import build
from fusepipe.engines.builder.tensorrt_plan import PlanOptions
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import manifest_path
from fusepipe.workflows.build_engine import build as workflow
from fusepipe.workflows.build_engine.build import BuildOptions

pytestmark = pytest.mark.usefixtures("engine_cache")


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    return write_images(tmp_path)


def test_build_list_verify_and_fuse(tmp_path: Path, images: list[str]) -> None:
    plan = tmp_path / "night.onnx"
    built = run("build-engine", "--backend", "openvino", "--int8", *images, "-o", str(plan), "--json")
    document = json.loads(built.output)
    assert built.exit_code == 0 and document["manifest"]["achieved_precision"] == "int8"
    assert set(document["manifest"]["verification"]["agreements"][0]["metrics"]) == {
        "MI", "CC", "VIF", "Qabf", "SCD", "SSIM_L255",
    }  # fmt: skip
    verified = run("verify-engine", str(plan), *images)
    assert verified.exit_code == 0 and "agrees" in verified.output
    listed = run("list-engines", str(tmp_path), "--json")
    (row,) = json.loads(listed.output)["engines"]
    assert row["fits"] and row["precision"] == "int8" and row["size_bytes"] == plan.stat().st_size
    pair = [str(tmp_path / band / "0.png") for band in ("ir", "vis")]
    fused = run("fuse", *pair, "-o", str(tmp_path / "f.png"), "--engine", str(plan), "--json")
    assert fused.exit_code == 0, fused.output
    assert json.loads(fused.output)["rigs"][0]["engine"]["precision"] == "int8"
    plan.write_bytes(plan.read_bytes()[:-100])
    assert "does not fit" in run("list-engines", str(tmp_path)).output
    assert run("verify-engine", str(plan)).exception is not None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--model", "strem"], UsageError, "'stream'"),
        (["--model", "absent.onnx"], EngineError, "cannot be read"),
        (["--backend", "openvine"], UsageError, "'openvino'"),
        (["--backend", "torch"], UsageError, "engines are not built"),
        (["--backend", "openvino", "--fp16"], UsageError, "openvino has no precision fp16"),
        (["--precision", "fp61"], UsageError, "'fp16'"),
        (["--fp16", "--precision", "int8"], UsageError, "do not go together"),
        (["--shape", "640x480", "320x240", "1920x1080"], UsageError, "at least as large as the one before"),
        (["--backend", "openvino", "--opt-level", "3"], UsageError, "--opt-level is for TensorRT"),
        (["--backend", "openvino", "--timing-cache", "t"], UsageError, "--timing-cache is for TensorRT"),
        (["--backend", "openvino", "--workspace", "9", "--target-sm", "SM89"], UsageError, "are for TensorRT"),
        (["--backend", "tensorrt-rtx", "--int8"], UsageError, "not for convolutions; --backend tensorrt has it"),
        (["--backend", "tensorrt"], EngineError, "--backend tensorrt-rtx builds without one"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], error: type[Exception], message: str) -> None:
    if arguments == ["--backend", "tensorrt"] and choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    result = run("build-engine", *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "00x00", "64x64", "64x64"], "'00x00': write WIDTHxHEIGHT"),
        (["--shape", "64x64", "64x64", "999999x9"], "'999999x9'"),
        (["--workspace", "99999999999999"], "not in the range"),
        (["--batch", "0"], "not in the range"),
        (["--opt-level", "9"], "not in the range"),
        (["--target-sm", "banana"], "such as SM89 or 8.9"),
    ],
)
def test_absurd_values_are_one_line(arguments: list[str], message: str) -> None:
    result = run("build-engine", *arguments)
    assert result.exit_code == 2 and message in result.output


@needs_rtx
@pytest.mark.parametrize("written", ["SM90", "sm_90", "90", "9.0"])
def test_an_architecture_is_understood_however_it_is_written(written: str) -> None:
    result = run("build-engine", "--backend", "tensorrt-rtx", "--fp16", "--target-sm", written)
    assert isinstance(result.exception, UsageError) and "not for SM90" in str(result.exception)


def test_fp16_without_a_gpu_takes_what_builds_without_one_or_says_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "gpu_here", lambda device: (None, "no NVIDIA GPU found: none"))
    for there in (True, False):
        monkeypatch.setattr(workflow, "package_installed", lambda name, there=there: there)
        if there and importlib.util.find_spec("tensorrt_rtx") is not None:
            _, backend, precision, _ = workflow.resolve_options(BuildOptions(precision="fp16"))
            assert (backend.name, precision.name) == ("tensorrt-rtx", "fp16")
            assert "no NVIDIA GPU found" in backend.reason and "builds without one" in backend.reason
        elif not there:
            with pytest.raises(UsageError, match=r"pip install 'fusepipe\[build,tensorrt-rtx\]'.*--precision auto"):
                workflow.resolve_options(BuildOptions(precision="fp16"))


@needs_rtx
def test_turing_is_a_target_only_where_it_is_the_gpu_and_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(sm: str, precision: str, *targets: str) -> tuple[str, ...]:
        monkeypatch.setattr(workflow, "gpu_here", lambda device: (Gpu("GPU", sm, "13.0", "13.0"), ""))
        monkeypatch.setattr(workflow, "misfit_of_packages", lambda backend, gpu: "")
        options = BuildOptions(backend="tensorrt-rtx", precision=precision, plan=PlanOptions(target_sm=targets))
        return workflow.resolve_options(options)[3].options.target_sm

    assert chosen("SM75", "fp16") == ("SM75",), "by default TensorRT-RTX builds for SM80 and later"
    assert chosen("SM89", "fp16") == () and chosen("SM75", "fp16", "SM89") == ("SM89",)
    assert chosen("SM75", "bf16", "SM89") == ("SM89",)
    for sm, targets in (("SM75", ()), ("SM89", ("SM89", "SM75"))):
        with pytest.raises(UsageError, match="--precision bf16: GPUs of architecture SM75 do not compute in bf16"):
            chosen(sm, "bf16", *targets)


def test_tensorrt_on_a_driver_that_is_too_old_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "gpu_here", lambda device: (Gpu("RTX 4090", "SM89", "12.4", "13.5.0"), ""))
    monkeypatch.setattr(workflow, "misfit_of_packages", lambda backend, gpu: "CUDA 12.4: pip install X")
    with pytest.raises(EngineError, match=r"none can be used \(CUDA 12\.4: pip install X\)"):
        workflow.resolve_options(BuildOptions(backend="tensorrt"))


def test_a_network_with_nan_weights_is_not_built(tmp_path: Path, engine_cache: Path, images: list[str]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(read_onnx("stream"))
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(np.nan), tensor.name))
    file = tmp_path / "mine.onnx"
    file.write_bytes(model.SerializeToString())
    result = run("build-engine", "--model", str(file), "--backend", "openvino", *images)
    assert isinstance(result.exception, EngineError) and "not finite" in str(result.exception)
    assert file_names(engine_cache) == []


def test_a_network_of_the_users_own_builds_and_runs(tmp_path: Path, images: list[str]) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(read_onnx("stream"))
    arguments = ["build-engine", "--model", str(file), "--backend", "openvino", "--precision", "fp32", *images]
    result = run(*arguments, "-o", str(tmp_path / "mine.engine"), "--json")
    assert result.exit_code == 0, result.output
    with load_model("stream", engine=str(tmp_path / "mine.engine")) as fuser:
        assert fuser.info.model == "mine" and fuser.fuse(*PAIRS[0]).shape == PAIRS[0][0].shape
    verify = ["verify-engine", str(tmp_path / "mine.engine"), *images]
    assert "name it with --model" in str(run(*verify).exception)
    assert "agrees" in run(*verify, "--model", str(file)).output
    other = tmp_path / "other.onnx"
    other.write_bytes(read_onnx("densefuse"))
    assert "other weights" in str(run(*verify, "--model", str(other)).exception)


def foreign_network(activation: str, size: tuple[object, object]) -> bytes:
    """As another tool exports it: unnamed nodes, a scale behind the last layer, nothing of ours in the metadata."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape, rng = ["n", 1, *size], np.random.default_rng(0)
    constants = {"w": rng.normal(0.05, 0.1, (8, 2, 3, 3)), "w2": rng.normal(0.02, 0.05, (1, 8, 3, 3))}
    constants |= {"in": 1 / 255, "out": 255.0, "low": 0.0, "high": 255.0}
    steps = [
        ("Mul", ["c", "in"], "cs"),
        ("Conv", ["cs", "w"], "d"),
        (activation, ["d"], "e"),
        ("Conv", ["e", "w2"], "f"),
    ]
    steps += [("Mul", ["f", "out"], "g"), ("Clip", ["g", "low", "high"], "h"), ("Round", ["h"], "rounded")]
    nodes = [helper.make_node("Cast", [name], [name[0]], to=TensorProto.FLOAT) for name in ("infrared", "visible")]
    nodes.append(helper.make_node("Concat", ["i", "v"], ["c"], axis=1))
    for kind, inputs, output in steps:
        nodes.append(helper.make_node(kind, inputs, [output]))
        if kind == "Conv":
            nodes[-1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    nodes.append(helper.make_node("Cast", ["rounded"], ["fused"], to=TensorProto.UINT8))
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("infrared", "visible", "fused")]
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "foreign", infos[:2], infos[2:], stored)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    onnx.checker.check_model(content)
    return content


@pytest.mark.parametrize("activation", ["Relu", "HardSwish"])
def test_a_network_of_another_tool_builds_in_fp32_and_int8(
    activation: str, tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose operators PyTorch's walk does not know: that is said, and does not stop the build."""
    monkeypatch.setattr("fusepipe.engines.builder.verify.find_spec", importlib.util.find_spec)
    file = tmp_path / "foreign.onnx"
    file.write_bytes(foreign_network(activation, ("h", "w")))
    for precision in ("fp32", "int8"):
        output = ["-o", str(tmp_path / f"{precision}.bin"), "--json"]
        result = run(
            "build-engine", "--model", str(file), "--backend", "openvino", f"--precision={precision}", *images, *output
        )
        assert result.exit_code == 0, result.output
        notes = json.loads(result.stdout)["manifest"]["verification"]["notes"]
        if importlib.util.find_spec("torch") is not None:
            assert notes == ([] if activation == "Relu" else [f"not compared with PyTorch: {UNKNOWN}"])
        with load_model("stream", engine=str(tmp_path / f"{precision}.bin")) as fuser:
            assert fuser.fuse(*PAIRS[0]).shape == PAIRS[0][0].shape


UNKNOWN = "the backend torch does not support the operators HardSwish"


def test_a_network_of_one_size_is_refused_with_the_reason(tmp_path: Path, images: list[str]) -> None:
    file = tmp_path / "fixed.onnx"
    file.write_bytes(foreign_network("Relu", (480, 640)))
    result = run("build-engine", "--model", str(file), "--backend", "openvino", *images)
    assert isinstance(result.exception, UsageError) and "640x480 only; export it with dynamic" in str(result.exception)


@pytest.mark.parametrize("written", ["0", "two", "-1"])
def test_an_invalid_multiple_is_reported(written: str, tmp_path: Path, images: list[str]) -> None:
    import onnx

    model = onnx.load_model_from_string(foreign_network("Relu", ("h", "w")))
    model.metadata_props.add(key="fusepipe.multiple", value=written)
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    result = run("build-engine", "--model", str(tmp_path / "odd.onnx"), "--backend", "openvino", *images)
    assert isinstance(result.exception, EngineError) and f"fusepipe.multiple = '{written}'" in str(result.exception)


_DEPLOYED = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "ml_dtypes", "nncf", "onnxruntime"), None))
from fusepipe.cli import main
main(sys.argv[1:])
"""


def test_a_deployed_engine_needs_neither_torch_nor_onnx(tmp_path: Path, images: list[str]) -> None:
    """The engine and its manifest alone, in a process in which the packages of building cannot be imported."""
    plan = build(build_request("openvino", "int8"), IMAGES, tmp_path / "built" / "night.onnx").plan
    deployed = tmp_path / "deployed"
    deployed.mkdir()
    for path in (plan, manifest_path(plan)):
        (deployed / path.name).write_bytes(path.read_bytes())
    (deployed / "rigs.yaml").write_text(f"""\
schema: 1
rigs:
  night:
    infrared: {{url: {images[1]}}}
    visible: {{url: {images[2]}}}
    fusion: {{engine: night.onnx}}
    sinks: [{{images: out}}]
""")
    command = [sys.executable, "-c", _DEPLOYED, "run", "--rig", "rigs.yaml", "--json"]
    ran = subprocess.run(command, cwd=deployed, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stderr
    engine = json.loads(ran.stdout)["rigs"][0]["engine"]
    assert engine["precision"] == "int8" and "night.onnx" in engine["reason"]
    assert len(list((deployed / "out").iterdir())) == len(PAIRS)
    without = [sys.executable, "-c", _DEPLOYED, "build-engine", "--int8"]
    refused = subprocess.run(without, cwd=deployed, capture_output=True, text=True, timeout=110)
    assert refused.returncode == 4 and "pip install 'fusepipe[build]'" in refused.stderr
