"""``build-engine``, ``verify-engine`` and ``list-engines`` as a user calls them, and a machine that only runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

sys.path.insert(0, str(Path(__file__).parent))
from engine_requests import MATERIALS, PAIRS, left, request, run, without_torch, write_images

from fusepipe.engines import choose, proving
from fusepipe.engines.build import build
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import manifest_path
from fusepipe.errors import EngineError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; PyTorch is left out, which has a test of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(proving, "find_spec", without_torch)
    return tmp_path / "cache" / "fusepipe" / "engines"


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    return write_images(tmp_path)


def test_build_list_verify_and_fuse(tmp_path: Path, images: list[str]) -> None:
    plan = tmp_path / "night.onnx"
    built = run("build-engine", "--backend", "openvino", "--int8", *images, "-o", str(plan), "--json")
    document = json.loads(built.output)
    assert built.exit_code == 0 and document["manifest"]["achieved_precision"] == "int8"
    assert set(document["manifest"]["proof"]["agreements"][0]["metrics"]) == {
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
        (["--backend", "tensorrt"], EngineError, "--backend tensorrt-rtx builds without one"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], error: type[Exception], message: str) -> None:
    if arguments == ["--backend", "tensorrt"] and choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    result = run("build-engine", *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_a_network_with_nan_weights_is_not_built(tmp_path: Path, cache: Path, images: list[str]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(read_onnx("stream"))
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(np.nan), tensor.name))
    file = tmp_path / "mine.onnx"
    file.write_bytes(model.SerializeToString())
    result = run("build-engine", "--model", str(file), "--backend", "openvino", *images)
    assert isinstance(result.exception, EngineError) and "not finite" in str(result.exception)
    assert left(cache) == []


def test_a_network_of_the_users_own_builds_and_runs(tmp_path: Path, images: list[str]) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(read_onnx("stream"))
    arguments = ["build-engine", "--model", str(file), "--backend", "openvino", "--precision", "fp32", *images]
    result = run(*arguments, "-o", str(tmp_path / "mine.engine"), "--json")
    assert result.exit_code == 0, result.output
    with load_model("stream", engine=str(tmp_path / "mine.engine")) as fuser:
        assert fuser.info.model == "mine" and fuser.fuse(*PAIRS[0]).shape == PAIRS[0][0].shape


_DEPLOYED = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "ml_dtypes", "nncf", "onnxruntime"), None))
from fusepipe.cli import main
main(sys.argv[1:])
"""


def test_a_deployed_engine_needs_neither_torch_nor_onnx(tmp_path: Path, images: list[str]) -> None:
    """The engine and its manifest alone, in a process in which the packages of building cannot be imported."""
    plan = build(request("openvino", "int8"), MATERIALS, tmp_path / "built" / "night.onnx").plan
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
