"""The pyramid network: one definition in PyTorch, as ONNX, and on CPUs with its finer levels in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.training import macs_per_pixel

torch = pytest.importorskip("torch", reason="training needs PyTorch: pip install 'fusepipe[train]'")
pytest.importorskip("onnxscript", reason="export needs onnxscript: pip install 'fusepipe[train]'")

import cv2

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FusionBatch, halved
from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
from fusepipe.engines.backends.openvino.network import GraphRunner
from fusepipe.engines.backends.openvino.pyramid import COARSE_SCALE, Pyramid, coarse_shape
from fusepipe.engines.backends.torch.fuser import TorchFuser
from fusepipe.train.export import export_pyramid
from fusepipe.train.networks.pyramid import PyramidNet

# (height, width), and how often it is halved for the infrared image
SIZES = [((480, 640), 0), ((471, 633), 0), ((1, 1), 0), ((1, 70), 0), ((17, 3), 0), ((240, 320), 1), ((135, 239), 2)]


@pytest.fixture(scope="module")
def network() -> PyramidNet:
    """Weights without training, large enough that mix, gates and gains vary from place to place."""
    torch.manual_seed(0)
    made = PyramidNet(16, 3).eval()
    with torch.no_grad():
        made.head.weight.mul_(20)
        made.sharpness.copy_(torch.tensor([1.0, 2.0, 3.0]))
    return made


@pytest.fixture(scope="module")
def onnx(network: PyramidNet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pyramid") / "pyramid.onnx"
    export_pyramid(network, path)
    return path.read_bytes()


def images(size: tuple[int, int], visible_levels: int = 0, seed: int = 0) -> tuple[Luma8, Luma8]:
    """An infrared and a visible image of smooth noise over the whole range."""
    rng = np.random.default_rng(seed)

    def noise(height: int, width: int) -> Luma8:
        grey = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 2) * 300 + 128
        return np.clip(grey, 0, 255).astype(np.uint8)

    return noise(*(halved(side, visible_levels) for side in size)), noise(*size)


def tensor(image: Luma8) -> torch.Tensor:
    return torch.from_numpy(image)[None, None].float() / 255


def defined(network: PyramidNet, infrared: Luma8, visible: Luma8, visible_levels: int = 0) -> Luma8:
    with torch.no_grad():
        return network(tensor(infrared), tensor(visible), visible_levels)[0, 0].mul(255).round().numpy()


def apart(one: Luma8, other: Luma8) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(("size", "visible_levels"), SIZES)
def test_integers_equal_the_definition_within_one_grey_level(
    network: PyramidNet, size: tuple[int, int], visible_levels: int
) -> None:
    infrared, visible = images(size, visible_levels)
    pyramid = Pyramid(*size, network.sharpness.detach().exp().tolist(), visible_levels)
    coarse = [torch.from_numpy(part / COARSE_SCALE)[None, None].float() for part in pyramid.reduce(infrared, visible)]
    with torch.no_grad():
        fused, gates, gains = network.coarse(*coarse)
    result = pyramid.add_detail(fused[0, 0].numpy(), gates[0].numpy(), gains[0].numpy())
    expected = defined(network, infrared, visible, visible_levels)
    assert apart(result, expected) <= 1
    assert size == (1, 1) or np.ptp(expected) > 30


@pytest.mark.parametrize(("size", "visible_levels"), SIZES)
def test_openvino_equals_the_definition_within_one_grey_level(
    network: PyramidNet, onnx: bytes, size: tuple[int, int], visible_levels: int
) -> None:
    infrared, visible = images(size, visible_levels)
    with OpenVinoFuser("pyramid", onnx, "fp32") as fuser:
        (result,) = fuser.submit(FusionBatch((infrared,), (visible,), visible_levels=visible_levels)).result()
        assert apart(result, defined(network, infrared, visible, visible_levels)) <= 1


def test_the_whole_graph_gives_the_same_in_pytorch_and_openvino(network: PyramidNet, onnx: bytes) -> None:
    pair = images((93, 130))
    expected = defined(network, *pair)
    assert apart(GraphRunner(onnx).fuse(*pair), expected) <= 1
    with TorchFuser("pyramid", onnx) as fuser:
        assert apart(fuser.fuse(*pair), expected) <= 1


def test_batches_and_two_requests_keep_their_own_images(onnx: bytes) -> None:
    pairs = [images((60, 90), seed=seed) for seed in range(5)]
    with OpenVinoFuser("pyramid", onnx, "fp32") as fuser:
        alone = [fuser.fuse(*pair) for pair in pairs]
        first = fuser.submit(FusionBatch(*zip(*pairs[:3], strict=True)))
        second = fuser.submit(FusionBatch(*zip(*pairs[3:], strict=True)))
        together = [*first.result(), *second.result()]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_equal_images_come_back_as_they_are(network: PyramidNet) -> None:
    grey = np.full((64, 96), 77, np.uint8)
    assert apart(defined(network, grey, grey), grey) <= 1


def test_other_engines_refuse_a_smaller_infrared_image(onnx: bytes) -> None:
    infrared, visible = images((60, 90), 1)
    with pytest.raises(UsageError, match="differ in size"):
        FusionBatch((infrared,), (visible,))
    far = FusionBatch((np.zeros((1, 1), np.uint8),), (np.zeros((32, 32), np.uint8),), visible_levels=5)
    with OpenVinoFuser("pyramid", onnx, "fp32") as fuser, pytest.raises(UsageError, match="visible_levels"):
        fuser.submit(far)


def test_a_graph_that_lacks_its_coarse_part_is_refused_in_one_line(onnx: bytes) -> None:
    damaged = onnx.replace(b"coarse_gates", b"coarse_doors")
    with pytest.raises(EngineError, match="no coarse_gates"):
        OpenVinoFuser("pyramid", damaged, "fp32")


def test_arithmetic_falls_with_the_levels() -> None:
    assert macs_per_pixel(PyramidNet(32, 3)) == pytest.approx(macs_per_pixel(PyramidNet(32, 2)) / 4, rel=0.02)


def test_the_coarsest_level_has_even_sides() -> None:
    assert coarse_shape((480, 640), 3) == (60, 80)
    assert coarse_shape((1, 1), 3) == (2, 2)
    assert coarse_shape((1080, 1920), 3, 1) == (68, 120)


def test_the_export_is_the_same_every_time(network: PyramidNet, onnx: bytes, tmp_path: Path) -> None:
    export_pyramid(network, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == onnx
