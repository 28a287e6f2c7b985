"""Shared by the tests of building engines: small images, build requests, an empty cache."""

from __future__ import annotations

import importlib.util
import io
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from packaging.version import Version

from fusepipe.cli import cli
from fusepipe.core.frames import Luma8
from fusepipe.engines.backends.openvino.network import read_multiple, shared_core
from fusepipe.engines.builder.request import BuildImages, BuildRequest
from fusepipe.engines.builder.tensorrt_plan import PlanOptions
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed: pip install 'fusepipe[tensorrt-rtx]'",
)


def _rtx_version() -> Version:
    for name in ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"):
        with suppress(PackageNotFoundError):
            return Version(version(name))
    return Version("0")


# build-engine refuses int8 for TensorRT-RTX; its builder is what checks the int8 graphs of TensorRT without a GPU
RTX_INT8 = pytest.param(
    "int8",
    marks=pytest.mark.skipif(
        _rtx_version() < Version("1.7"), reason="TensorRT-RTX before 1.7 builds no int8 convolutions"
    ),
)


def smooth_image(seed: int, height: int = 64, width: int = 96) -> Luma8:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.0).astype(np.float32)
    return np.clip((blurred - 128) * 5 + 128, 0, 255).astype(np.uint8)


PAIRS = [(smooth_image(seed), smooth_image(seed + 50)) for seed in range(4)]
IMAGES = BuildImages(PAIRS[:2], PAIRS[2:], None, "noise")
SHAPES = Shapes((16, 16), (96, 64), (256, 256), batch=2)


def build_request(
    backend: str = "openvino", precision: str = "fp32", model: str = "stream", **changes: object
) -> BuildRequest:
    made = BuildRequest(
        model, read_onnx(model), backend, precision, SHAPES, PlanOptions(), rebuild="fusepipe build-engine X"
    )
    return replace(made, **changes)


def padding_multiple(model: str = "stream") -> int:
    """The multiple that the shipped network's heights and widths are padded to."""
    return read_multiple(shared_core().read_model(io.BytesIO(read_onnx(model))))


def compute_layers(model: str = "stream", *, batched: bool = False) -> int:
    """How many layers of the shipped network have weights and a bias; ``batched``: both images in one, as GPUs do."""
    import onnx

    nodes = onnx.load_model_from_string(read_onnx(model)).graph.node
    weights = [node.input[1] for node in nodes if node.op_type == "Conv" and len(node.input) > 2]
    return len(set(weights) if batched else weights)


def file_names(folder: Path) -> list[str]:
    """The names in a folder, without the locks; empty if it does not exist."""
    return sorted(p.name for p in folder.glob("*") if p.name != ".locks") if folder.exists() else []


def without_torch(name: str) -> object:
    """``find_spec`` as if PyTorch were not installed: comparing with it has a test of its own."""
    return None if name == "torch" else importlib.util.find_spec(name)


def run(*arguments: str) -> Result:
    """Runs the command line as ``main`` does."""
    return CliRunner().invoke(cli, arguments, obj=arguments)


def write_images(folder: Path) -> list[str]:
    """Writes the pairs to files; returns the command-line arguments for them."""
    for band, index in (("ir", 0), ("vis", 1)):
        (folder / band).mkdir()
        for number, pair in enumerate(PAIRS):
            cv2.imwrite(str(folder / band / f"{number}.png"), pair[index])
    return ["--images", str(folder / "ir"), str(folder / "vis")]


def flip_byte(plan: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(bytes(content))
