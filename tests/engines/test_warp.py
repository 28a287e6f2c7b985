"""The warp in the engine's graph computes what OpenCV's remap computes, on every runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import RTX_INT8, padding_multiple  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from fusepipe.calibration.warp import RemapWarp  # noqa: E402
from fusepipe.cli import cli  # noqa: E402
from fusepipe.core.errors import EngineError, UsageError  # noqa: E402
from fusepipe.core.frames import Luma8, Warp  # noqa: E402
from fusepipe.core.fuser import Fuser, FuserInfo, FusionBatch  # noqa: E402
from fusepipe.engines.backends.cuda.fake import FakeCuda  # noqa: E402
from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser  # noqa: E402
from fusepipe.engines.backends.openvino.network import GraphRunner  # noqa: E402
from fusepipe.engines.backends.tensorrt.fake import FakePlan  # noqa: E402
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser  # noqa: E402
from fusepipe.engines.builder.request import BuildRequest  # noqa: E402
from fusepipe.engines.builder.warp_graph import add_warp  # noqa: E402
from fusepipe.engines.load import load_model, read_onnx  # noqa: E402
from fusepipe.engines.manifest import Shapes, read_manifest  # noqa: E402
from fusepipe.engines.onnx_graph import read_graph, serialised  # noqa: E402
from fusepipe.engines.sampling_grid import normalised_grid  # noqa: E402
from fusepipe.workflows.build_engine.image_pairs import verification_warp  # noqa: E402


def noise(height: int, width: int, seed: int) -> Luma8:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


TURN = [[1.7, -0.2, 6.0], [0.25, 1.6, -9.0], [1e-4, 2e-4, 1.0]]
# rotated and cropped, enlarged, shrunk (box-averaged first), and with a complete view
WARPS = {
    "turned": RemapWarp(TURN, (61, 47), (96, 80)),
    "enlarged": RemapWarp(np.diag([3.2, 3.3, 1.0]), (32, 24), (96, 80)),
    "shrunk": RemapWarp([[0.3, 0.02, -4.0], [0.0, 0.24, 1.0], [0, 0, 1]], (400, 330), (96, 80)),
    "whole": RemapWarp([[1.5, 0, 0.25], [0, 1.6, 0.3], [0, 0, 1]], (64, 50), (96, 80), whole_view=True),
}


def on_the_cpu(warp: Warp, infrared: Luma8) -> Luma8:
    """What the pipeline gives to engines without the warp: outside the view the edge pixels are repeated."""
    return np.asarray(warp.apply(infrared), np.uint8)


def passing() -> bytes:
    """A graph whose result is its infrared image."""
    u8, sides = TensorProto.UINT8, ["batch", 1, "height", "width"]
    nodes = [
        helper.make_node("Cast", ["infrared"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["visible"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["b", "b"], ["zero"]),
        helper.make_node("Add", ["a", "zero"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["fused"], to=u8),
    ]
    tensors = [helper.make_tensor_value_info(name, u8, sides) for name in ("infrared", "visible", "fused")]
    graph = helper.make_graph(nodes, "passing", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key="fusepipe.multiple", value="1")
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("name", WARPS)
def test_openvino_samples_as_remap_does(name: str) -> None:
    warp = WARPS[name]
    (width, height), (vis_w, vis_h) = warp.infrared_size, warp.visible_size
    infrared, visible = noise(height, width, 1), noise(vis_h, vis_w, 2)
    given = GraphRunner(serialised(add_warp(read_graph(passing(), "passing")))).fuse(infrared, visible, warp)
    difference = np.abs(given.astype(int) - on_the_cpu(warp, infrared))
    # both sample at 32nds of a pixel (one of them is up to 8 levels of this noise); ties are rounded otherwise
    assert difference.max() <= 1 and difference.mean() < 0.05
    assert given.std() > 15


def test_the_onnx_reference_samples_as_remap_does() -> None:
    from onnx.reference import ReferenceEvaluator

    warp = RemapWarp(TURN, (19, 16), (30, 22))  # small: it computes in Python
    (width, height), (vis_w, vis_h) = warp.infrared_size, warp.visible_size
    infrared, visible = noise(height, width, 1), noise(vis_h, vis_w, 2)
    model = add_warp(read_graph(passing(), "passing"))
    grid = normalised_grid(warp, (height, width), (vis_h, vis_w))
    assert (np.abs(grid) > 1).any(), "some of it is outside the infrared view"
    feeds = {"infrared": infrared[None, None], "visible": visible[None, None], "sampling_grid": grid[None]}
    (given,) = ReferenceEvaluator(model).run(None, feeds)
    difference = np.abs(given[0, 0].astype(int) - on_the_cpu(warp, infrared))
    assert difference.max() <= 1 and difference.mean() < 0.05


def test_the_sampling_grid_is_that_of_remap() -> None:
    """A ramp sampled at them is the ramp's values, by hand: x_ir = (x_vis - 0.25) / 1.5."""
    warp = WARPS["whole"]
    across = warp.sampling_grid[10, :, 0]
    assert np.abs(across[2:90] - (np.arange(96) - 0.25)[2:90] / 1.5).max() <= 1 / 64
    assert warp.sampling_grid.shape == (80, 96, 2) and not warp.sampling_grid.flags.writeable
    grid = normalised_grid(warp, (50, 64), (82, 96))
    assert np.allclose(grid[10, :, 0], (across + 0.5) / 32 - 1) and np.array_equal(grid[81], grid[79])
    with pytest.raises(UsageError, match="the visible image is padded to"):
        normalised_grid(warp, (50, 64), (40, 96))


# -- engines


def warped_stream() -> bytes:
    return serialised(add_warp(read_graph(read_onnx("stream"), "stream")))


def on_openvino() -> Fuser:
    return OpenVinoFuser("stream", warped_stream(), "fp32")


def on_fake_cuda(cuda: FakeCuda) -> Fuser:
    info = FuserInfo("stream", "tensorrt", "fp32", accepts_warp=True, max_in_flight=2, max_batch=3)
    multiple = padding_multiple()
    shapes = Shapes((multiple, multiple), (64, 48), (512, 512), batch=3)
    return TensorRtFuser(info, shapes, multiple, lambda: FakePlan(cuda, warped_stream()), lambda: cuda)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def warped(fuser: Fuser, infrared: Luma8, visible: Luma8, warp: Warp | None) -> Luma8:
    return fuser.submit(FusionBatch((infrared,), (visible,), ("",), (warp,))).result()[0]


@pytest.mark.parametrize("runtime", ["openvino", "fake"])
def test_an_engine_that_registers_gives_what_the_cpu_and_an_engine_give(runtime: str) -> None:
    cuda = FakeCuda()
    with (
        on_openvino() if runtime == "openvino" else on_fake_cuda(cuda) as fuser,
        load_model("stream", "openvino", "fp32") as plain,
    ):
        assert fuser.info.accepts_warp and not plain.info.accepts_warp
        for warp in (WARPS["turned"], WARPS["enlarged"], WARPS["shrunk"], WARPS["turned"]):
            (width, height), (vis_w, vis_h) = warp.infrared_size, warp.visible_size
            infrared, visible = noise(height, width, 3), noise(vis_h, vis_w, 4)
            for _ in range(3):  # on fake CUDA the second captures a graph, the third launches it
                given = warped(fuser, infrared, visible, warp)
                difference = np.abs(given.astype(int) - plain.fuse(on_the_cpu(warp, infrared), visible))
                assert difference.max() <= 2 and difference.mean() < 0.05
        # without a warp the images are registered already, and have to be of one size
        infrared, visible = noise(37, 53, 5), noise(37, 53, 6)
        difference = np.abs(fuser.fuse(infrared, visible).astype(int) - plain.fuse(infrared, visible))
        assert difference.max() <= 1
        with pytest.raises(UsageError, match="have no warp"):
            warped(fuser, noise(20, 20, 1), visible, None)
        with pytest.raises(UsageError, match="the warp is for visible images of"):
            warped(fuser, infrared, noise(20, 20, 1), WARPS["turned"])
        assert fuser.fuse(infrared, visible).shape == (37, 53)
        with pytest.raises(UsageError, match="apply the warp first"):
            warped(plain, noise(47, 61, 1), noise(80, 96, 2), WARPS["turned"])


def test_a_batch_has_a_warp_for_each_pair() -> None:
    warps = [WARPS["turned"], RemapWarp(np.diag([1.55, 1.65, 1.0]), (61, 47), (96, 80))]
    pairs = [(noise(47, 61, seed), noise(80, 96, seed + 9)) for seed in (1, 2)]
    with on_openvino() as fuser, on_fake_cuda(FakeCuda()) as faked:
        alone = [warped(fuser, *pair, warp) for pair, warp in zip(pairs, warps, strict=True)]
        batch = FusionBatch([p[0] for p in pairs], [p[1] for p in pairs], ("a", "b"), warps)
        for together in (fuser.submit(batch).result(), faked.submit(batch).result()):
            assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(alone, together, strict=True))


def test_the_grid_is_copied_to_the_gpu_once_per_warp() -> None:
    cuda = FakeCuda()
    moved = RemapWarp(np.add(TURN, [[0, 0, 2], [0, 0, 1], [0, 0, 0]]), (61, 47), (96, 80))
    infrared, visible = noise(47, 61, 1), noise(80, 96, 2)
    with on_fake_cuda(cuda) as fuser:
        first = [warped(fuser, infrared, visible, WARPS["turned"]) for _ in range(5)]
        # each image once for real and once into the captured graph, and the grid once
        assert cuda.calls["copy_in"] == 5 and cuda.calls["launch"] == 4
        other = warped(fuser, infrared, visible, moved)
        assert cuda.calls["copy_in"] == 6 and cuda.calls["launch"] == 5
    assert all(np.array_equal(image, first[0]) for image in first) and not np.array_equal(other, first[0])


def test_a_grid_that_could_not_be_copied_is_copied_again() -> None:
    cuda = FakeCuda()
    infrared, visible = noise(47, 61, 1), noise(80, 96, 2)
    with on_fake_cuda(cuda) as fuser, on_openvino() as exact:
        cuda.fail = "copy_in"
        for _ in range(2):
            with pytest.raises(EngineError, match="copy_in failed"):
                warped(fuser, infrared, visible, WARPS["turned"])
        cuda.fail = ""
        wanted = warped(exact, infrared, visible, WARPS["turned"])
        assert np.abs(warped(fuser, infrared, visible, WARPS["turned"]).astype(int) - wanted).max() <= 1


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed: pip install 'fusepipe[tensorrt-rtx]'",
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", RTX_INT8])
def test_tensorrt_rtx_builds_the_warp(precision: str) -> None:
    from fusepipe.engines.builder.agreement import require_agreement
    from fusepipe.engines.builder.build import compile_engine
    from fusepipe.engines.builder.request import BuildImages
    from fusepipe.engines.builder.tensorrt_plan import PlanOptions
    from fusepipe.engines.builder.verify import verify

    shapes = Shapes((16, 16), (96, 64), (256, 256), batch=2)
    asked = BuildRequest("stream", read_onnx("stream"), "tensorrt-rtx", precision, shapes, PlanOptions(), warp=True)
    smooth = [np.asarray(cv2.GaussianBlur(noise(64, 96, seed), (0, 0), 2.0), np.uint8) for seed in range(4)]
    pairs = [(smooth[0], smooth[1]), (smooth[2], smooth[3])]
    compiled = compile_engine(asked, pairs[:1])
    assert set(compiled.layers.values()) == {precision} and compiled.kept_fp32 == ()
    require_agreement(
        verify(asked, compiled.plan, compiled.graph, BuildImages((), pairs, make_warp=verification_warp)), precision
    )


def test_a_network_that_does_not_begin_with_bytes_to_floats_is_refused() -> None:
    model = read_graph(passing(), "passing")
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].attribute[:]
    with pytest.raises(EngineError, match="casting its images"):
        add_warp(model)


# -- the whole way


def rig(folder: Path, engine: str, outside: str = "visible") -> Path:
    """A rig of the synthetic street, whose infrared image needs a warp, that writes images."""
    scene = "synthetic://street"
    for band, size in (("infrared", "96x72"), ("visible", "160x120")):
        (folder / f"{band}.url").write_text(f"{scene}?band={band}&size={size}&fps=10&duration=400ms&pace=fast")
    path = folder / "rigs.yaml"
    path.write_text(f"""\
schema: 1
rigs:
  street:
    infrared: {{url: "{(folder / "infrared.url").read_text()}"}}
    visible: {{url: "{(folder / "visible.url").read_text()}"}}
    registration: {{calibration: "{scene}", outside: {outside}}}
    fusion: {{engine: {engine}}}
    sinks: [{{images: out-{Path(engine).stem}-{outside}}}]
""")
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Small pairs to verify with."""
    for band, seed in (("ir", 0), ("vis", 50)):
        (tmp_path / band).mkdir()
        for number in range(2):
            smooth = cv2.GaussianBlur(noise(64, 96, seed + number), (0, 0), 2.0)
            cv2.imwrite(str(tmp_path / band / f"{number}.png"), smooth)
    return ["--images", str(tmp_path / "ir"), str(tmp_path / "vis")]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, obj=arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_run_leaves_the_registration_to_the_engine(
    tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusepipe.engines.builder.verify.find_spec", lambda name: None)
    for name in ("cpu", "gpu"):
        options = ["--warp"] if name == "gpu" else []
        shapes = ["--shape", "64x48", "160x120", "160x120"]
        common = ["build-engine", "--backend", "openvino", "--precision", "fp32", *shapes]
        document = json.loads(run(*common, *options, *images, "-o", str(tmp_path / f"{name}.onnx"), "--json"))
        agreement = document["manifest"]["verification"]["agreements"][0]
        assert document["manifest"]["warp"] == bool(options) and agreement["max_abs"] <= 1
    assert "agrees" in run("verify-engine", str(tmp_path / "gpu.onnx"), *images)
    assert read_manifest(tmp_path / "gpu.onnx").warp
    for outside in ("visible", "crop"):
        run("run", "--rig", str(rig(tmp_path, "cpu.onnx", outside)))

    def applied(self: RemapWarp, pixels: Luma8) -> Luma8:
        raise AssertionError("the CPU warped an image that the engine warps")

    monkeypatch.setattr(RemapWarp, "apply", applied)
    for outside in ("visible", "crop"):
        run("run", "--rig", str(rig(tmp_path, "gpu.onnx", outside)))
        files = [sorted((tmp_path / f"out-{name}-{outside}").iterdir()) for name in ("cpu", "gpu")]
        assert len(files[0]) == len(files[1]) == 4
        for one, other in zip(*files, strict=True):
            images = [cv2.imread(str(path)).astype(int) for path in (one, other)]
            assert images[0].shape == images[1].shape
            assert (images[0].shape == (120, 160, 3)) == (outside == "visible"), "cropped to what both cameras see"
            difference = np.abs(images[0] - images[1])
            assert difference.max() <= 1 and difference.mean() < 0.03
