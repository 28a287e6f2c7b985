"""Building engines for real: TensorRT-RTX without a GPU, OpenVINO on this CPU; and all that can go wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from fusepipe.cli import cli
from fusepipe.engines import build as building
from fusepipe.engines import choose, proof, store
from fusepipe.engines.build import BuildRequest, Materials, build, compile_engine
from fusepipe.engines.cuda_api import Gpu
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import Shapes, manifest_path, misfit, read_manifest, read_plan
from fusepipe.engines.tensorrt_build import PlanOptions
from fusepipe.errors import EngineError, UsageError
from fusepipe.frames import Luma8

ROOT = Path(__file__).resolve().parents[1]
rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed: pip install 'fusepipe[tensorrt-rtx]'",
)


def picture(seed: int, height: int = 64, width: int = 96) -> Luma8:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.0).astype(np.float32)
    return np.clip((blurred - 128) * 5 + 128, 0, 255).astype(np.uint8)


PAIRS = [(picture(seed), picture(seed + 50)) for seed in range(4)]
MATERIALS = Materials(PAIRS[:2], PAIRS[2:], None, "noise")
SHAPES = Shapes((16, 16), (96, 64), (256, 256), batch=2)


def request(
    backend: str = "openvino", precision: str = "fp32", model: str = "stream", **changes: object
) -> BuildRequest:
    made = BuildRequest(
        model, read_onnx(model), backend, precision, SHAPES, PlanOptions(), rebuild="fusepipe build-engine X"
    )
    return replace(made, **changes)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; PyTorch is left out, which has a test of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "find_spec", lambda name: None if name == "torch" else importlib.util.find_spec(name))
    return tmp_path / "cache" / "fusepipe" / "engines"


def left(folder: Path) -> list[str]:
    """What lies in a folder, but for locks."""
    return sorted(p.name for p in folder.glob("*") if p.name != ".locks") if folder.exists() else []


# -- builds


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_tensorrt_rtx_builds_without_a_gpu_in_the_precision_asked_for(precision: str, cache: Path) -> None:
    built = build(request("tensorrt-rtx", precision), MATERIALS)
    manifest, content = read_plan(built.plan)
    assert manifest.requested_precision == manifest.achieved_precision == precision
    assert manifest.layers == {precision: 12}  # as the parsed network's layers say
    assert len(content) == manifest.plan_bytes > 100_000
    assert content[:4] == b"ptrt" or not content.startswith(b"{")  # pure: no header of ours in front
    (agreement,) = manifest.proof["agreements"]
    assert not manifest.proof["executed"] and "computed on the CPU" in manifest.proof["subject"]
    assert agreement["pairs"] == 2 and agreement["psnr_db"] >= proof.TOLERANCES[precision].psnr_db
    assert left(cache) == sorted(f"{built.plan.name}{end}" for end in ("", ".json", ".onnx"))


@rtx
@pytest.mark.slow
@pytest.mark.parametrize("model", ["densefuse", "fusiongan"])
def test_other_networks_build_as_well(model: str) -> None:
    built = build(request("tensorrt-rtx", "fp16", model, shapes=Shapes((16, 16), (32, 32), (64, 64))), MATERIALS)
    assert set(built.manifest.layers) == {"fp16"}


@rtx
@pytest.mark.slow
def test_the_papers_network_compiles_in_every_precision(tmp_path: Path) -> None:
    """Its weights do not matter for that; every one of its 38 convolutions has the precision asked for."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'fusepipe[train]'")
    from fusepipe.train.export import write_graph
    from fusepipe.train.mfe import MfeNet

    torch.manual_seed(0)
    write_graph(MfeNet().eval(), tmp_path / "untrained.onnx", {"model": "untrained"})
    onnx = (tmp_path / "untrained.onnx").read_bytes()
    for backend, precision in (("tensorrt-rtx", "fp16"), ("tensorrt-rtx", "int8"), ("openvino", "int8")):
        asked = BuildRequest("untrained", onnx, backend, precision, SHAPES, PlanOptions())
        compiled = compile_engine(asked, PAIRS[:1])
        assert list(compiled.layers.values()) == [precision] * 38 and compiled.kept_fp32 == ()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_engines_are_executed_for_their_proof(precision: str) -> None:
    built = build(request("openvino", precision), MATERIALS)
    assert built.manifest.proof["executed"] and built.manifest.layers == {precision: 12}
    with load_model("stream", engine=str(built.plan)) as fuser, load_model("stream", precision="fp32") as exact:
        assert fuser.info.precision == precision and built.plan.name in fuser.info.reason
        given, expected = fuser.fuse(*PAIRS[3]), exact.fuse(*PAIRS[3])
    agreement = proof.compare("fp32", PAIRS[3:], [expected], [given])
    assert (agreement.max_abs == 0) == (precision == "fp32") and agreement.psnr_db > 36


def test_an_engine_of_the_cache_is_found_by_its_names() -> None:
    with pytest.raises(EngineError, match="build-engine --model densefuse --backend openvino --precision int8"):
        load_model("densefuse", "openvino", "int8")
    built = build(request("openvino", "int8", "densefuse"), MATERIALS)
    with load_model("densefuse", "openvino", "int8") as fuser:
        assert fuser.info.precision == "int8" and built.plan.name in fuser.info.reason


def test_a_second_build_takes_the_proven_engine_and_force_builds_anew() -> None:
    first = build(request(), MATERIALS)
    again = build(request(), MATERIALS)
    assert again.reused and again.plan == first.plan and again.manifest.built == first.manifest.built
    assert not build(request(), MATERIALS, force=True).reused
    assert build(request(shapes=replace(SHAPES, batch=1)), MATERIALS).plan != first.plan


def test_pytorch_is_compared_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(building, "find_spec", importlib.util.find_spec)
    agreements = build(request(), MATERIALS).manifest.proof["agreements"]
    assert [a["reference"] for a in agreements] == ["the fp32 ONNX", "PyTorch"]
    assert agreements[1]["max_abs"] <= 1


@rtx
def test_the_options_reach_the_builder(tmp_path: Path) -> None:
    options = PlanOptions(workspace_mib=256, opt_level=2, target_sm=("SM89",), version_compatible=False)
    built = build(request("tensorrt-rtx", "fp16", options=options), MATERIALS, tmp_path / "x.plan")
    assert built.manifest.targets == ("SM89",) and built.manifest.options["opt_level"] == 2
    with pytest.raises(UsageError, match=r"builds for .*SM89.*, not for SM90"):
        build(request("tensorrt-rtx", "fp16", options=PlanOptions(target_sm=("SM90",))), MATERIALS)
    with pytest.raises(EngineError, match="another engine already"):
        build(request("tensorrt-rtx", "fp32"), MATERIALS, tmp_path / "x.plan")
    assert build(request("tensorrt-rtx", "fp32"), MATERIALS, tmp_path / "x.plan", force=True).plan.exists()


# -- builds that must fail, and leave nothing


@rtx
def test_an_fp32_graph_is_no_fp16_engine(cache: Path) -> None:
    """What tools that only set a flag ship as fp16."""
    with pytest.raises(EngineError, match=r"asked for fp16, but 12 of 12 compute layers are not .* is fp32"):
        build(request("tensorrt-rtx", "fp16", convert=False), MATERIALS)
    assert left(cache) == []


def test_an_fp32_graph_is_no_int8_engine_on_the_cpu_either(cache: Path) -> None:
    with pytest.raises(EngineError, match="int8"):
        build(request("openvino", "int8", convert=False), MATERIALS)
    assert left(cache) == []


@rtx
def test_images_that_do_not_agree_fail_the_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proof.TOLERANCES, "int8", proof.Tolerance(90.0, 0))
    with pytest.raises(EngineError, match="does not agree") as caught:
        build(request("tensorrt-rtx", "int8"), MATERIALS)
    assert caught.value.exit_code == 4 and left(cache) == []


def test_an_interrupted_build_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)  # in the middle of writing
    with pytest.raises(KeyboardInterrupt):
        build(request(), MATERIALS)
    assert left(cache) == []


_BUILD = """
import importlib.util, resource, signal, sys
sys.path.insert(0, {tests!r})
import fusepipe.engines.build as building
building.find_spec = lambda name: None if name == "torch" else importlib.util.find_spec(name)
from test_engines_build import MATERIALS, request, build
{before}
built = build(request("openvino", "int8"), MATERIALS)
print(built.plan, built.reused, flush=True)
"""


def process(before: str = "") -> subprocess.Popen[str]:
    code = _BUILD.format(tests=str(ROOT / "tests"), before=before)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_no_engine_and_the_next_one_cleans_up(cache: Path) -> None:
    hang = "import os, time\nos.fsync = lambda number: (print('writing', flush=True), time.sleep(60))"
    killed = process(hang)
    try:
        assert killed.stdout is not None and killed.stdout.readline() == "writing\n"
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=20)
    assert left(cache) and all(".partial-" in name for name in left(cache))
    built = build(request("openvino", "int8"), MATERIALS)
    assert left(cache) == [built.plan.name, f"{built.plan.name}.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(cache: Path) -> None:
    """The system's own limit on the size of files, as no test may fill a disk."""
    limited = process("resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))")
    _, said = limited.communicate(timeout=110)
    assert limited.returncode == 1
    assert "EngineError" in said and "cannot be written (File too large)" in said
    assert left(cache) == []


def test_two_processes_build_one_engine(cache: Path) -> None:
    running = [process(), process()]
    printed = [one.communicate(timeout=110) for one in running]
    assert [one.returncode for one in running] == [0, 0], printed
    plans, reused = zip(*(out.split() for out, _ in printed), strict=True)
    assert plans[0] == plans[1] and sorted(reused) == ["False", "True"]
    assert len(left(cache)) == 2
    read_plan(Path(plans[0]))


def test_waiting_for_another_build_has_an_end(tmp_path: Path) -> None:
    plan = tmp_path / "x.onnx"
    began = time.monotonic()
    with store.building(plan), pytest.raises(EngineError, match="another process"), store.building(plan, wait_s=0.3):
        pass
    assert time.monotonic() - began < 5


# -- engines that must not run


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return build(request("openvino", "int8"), MATERIALS, tmp_path / "night.onnx").plan


def cut(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-100])


def flip(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(bytes(content))


def lose_manifest(plan: Path) -> None:
    manifest_path(plan).unlink()


def lose_plan(plan: Path) -> None:
    plan.unlink()


def foreign_manifest(plan: Path) -> None:
    manifest_path(plan).write_text('{"name": "yolo", "format": "engine"}')


def broken_manifest(plan: Path) -> None:
    manifest_path(plan).write_text('{"format": 1, "mod')


def poor_manifest(plan: Path) -> None:
    data = json.loads(manifest_path(plan).read_text())
    del data["shapes"]
    manifest_path(plan).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"\d+ of \d+ bytes.*fusepipe build-engine X"),
        (flip, "its bytes have changed"),
        (lose_manifest, "has no manifest"),
        (lose_plan, "cannot be read"),
        (foreign_manifest, "has format engine"),
        (broken_manifest, "cannot be used"),
        (poor_manifest, "cannot be used .*shapes"),
    ],
)
def test_damaged_and_foreign_files_are_refused(engine: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(engine)
    with pytest.raises(EngineError, match=message) as caught:
        load_model("stream", engine=str(engine))
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_an_engine_of_other_weights_is_refused(engine: Path) -> None:
    text = manifest_path(engine).read_text().replace(read_manifest(engine).onnx_sha256, "0" * 64)
    manifest_path(engine).write_text(text)
    with pytest.raises(EngineError, match=r"other weights .*build it again: fusepipe build-engine X"):
        load_model("stream", engine=str(engine))


def test_names_that_contradict_the_engine_are_refused(engine: Path) -> None:
    with pytest.raises(UsageError, match="give --model stream"):
        load_model("densefuse", engine=str(engine))
    with pytest.raises(UsageError, match="give --precision int8"):
        load_model("stream", precision="fp32", engine=str(engine))
    with pytest.raises(EngineError, match="there is no such engine"):
        load_model("stream", engine="nowhere.plan")


@rtx
def test_a_plan_of_another_version_names_both_and_the_command(tmp_path: Path) -> None:
    plan = build(request("tensorrt-rtx", "fp16"), MATERIALS, tmp_path / "x.plan").plan
    here = read_manifest(plan).library_version
    manifest_path(plan).write_text(manifest_path(plan).read_text().replace(here, "1.0.0.1"))
    with pytest.raises(EngineError, match=rf"tensorrt_rtx 1\.0\.0\.1, here is {here}.*fusepipe build-engine X"):
        load_model("stream", engine=str(plan))


@rtx
def test_without_a_gpu_a_plan_says_what_is_missing(tmp_path: Path) -> None:
    if choose.gpu_here()[0] is not None:
        pytest.skip("there is a GPU")
    plan = build(request("tensorrt-rtx", "fp16"), MATERIALS, tmp_path / "x.plan").plan
    with pytest.raises(EngineError, match="no GPU can be used"):
        load_model("stream", engine=str(plan))


def test_a_plan_fits_its_gpu_only() -> None:
    manifest = read_manifest(build(request(), MATERIALS).plan)
    plan = replace(manifest, backend="tensorrt-rtx", library="tensorrt_rtx", library_version="1.7", targets=("SM89",))
    assert misfit(plan, library_version="1.7", onnx_sha256=None, sm="SM89") == ""
    assert (
        misfit(plan, library_version="1.7", onnx_sha256=None, sm="SM120") == "it was built for SM89, this GPU is SM120"
    )
    plain = replace(plan, backend="tensorrt", targets=(), device="RTX 4090")
    assert "RTX 4090, this is L4" in misfit(plain, library_version="1.7", onnx_sha256=None, sm="SM89", device="L4")


# -- the choices of auto


def test_auto_explains_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("RTX 4090", "SM89", "13.0", "13.0")
    assert choose.gpu_backend(None, "no driver").name == "openvino"
    for there, wanted in ((["tensorrt"], "tensorrt"), (["tensorrt-rtx"], "tensorrt-rtx"), ([], "openvino")):
        monkeypatch.setattr(choose, "installed", lambda name, there=there: name in there)
        choice = choose.gpu_backend(gpu, "")
        assert choice.name == wanted and "RTX 4090" in choice.reason


# -- the commands


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, obj=arguments)  # as main does


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    for band, index in (("ir", 0), ("vis", 1)):
        (tmp_path / band).mkdir()
        for number, pair in enumerate(PAIRS):
            cv2.imwrite(str(tmp_path / band / f"{number}.png"), pair[index])
    return ["--images", str(tmp_path / "ir"), str(tmp_path / "vis")]


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
    cut(plan)
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
