"""The classical rules: exact values, any size and stride, and one clear line for what does not apply."""

from __future__ import annotations

import numpy as np
import pytest

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.fuser import FusionBatch
from fusepipe.core.models import MODELS, NETWORKS, model_factory
from fusepipe.evaluation.baselines.load import load_baseline

RULES = ["mean", "max", "pyramid"]
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (17, 31), (31, 64), (61, 53)]


def pair(height: int, width: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


def test_mean_and_max_of_every_pair_of_values() -> None:
    a, b = (g.astype(np.uint8) for g in np.mgrid[0:256, 0:256])
    assert np.array_equal(load_baseline("mean").fuse(a, b), (a.astype(int) + b + 1) // 2)
    assert np.array_equal(load_baseline("max").fuse(a, b), np.maximum(a, b))


@pytest.mark.parametrize("model", RULES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size(model: str, height: int, width: int) -> None:
    a, b = pair(height, width)
    with load_baseline(model) as fuser:
        fuser.prepare(height, width)
        fused = fuser.fuse(a, b)
        assert fused.shape == (height, width)
        assert fused.dtype == np.uint8
        assert np.array_equal(fused, fuser.fuse(b, a)), "the sources are treated alike"
        same = fuser.fuse(a, a)
        assert np.array_equal(same, a)
        assert not np.shares_memory(same, a), "the result belongs to the caller"


@pytest.mark.parametrize("model", RULES)
def test_strides_and_read_only_views(model: str) -> None:
    a, b = pair(40, 60)
    fuser = load_baseline(model)
    expected = fuser.fuse(a, b)
    wide_a, wide_b = np.zeros((40, 100), np.uint8), np.zeros((40, 80), np.uint8)
    wide_a[:, :60], wide_b[:, 20:] = a, b
    flipped = np.ascontiguousarray(b[::-1])[::-1]
    for left, right in ((wide_a[:, :60], wide_b[:, 20:]), (a, flipped)):
        left.flags.writeable = False
        assert np.array_equal(fuser.fuse(left, right), expected)


def test_pyramid_keeps_the_stronger_detail() -> None:
    """A bright dot of one source and a dark one of the other both survive, at full contrast."""
    a, b = np.full((64, 64), 100, np.uint8), np.full((64, 64), 100, np.uint8)
    a[20, 20], b[44, 44] = 200, 10
    fused = load_baseline("pyramid").fuse(a, b)
    assert abs(int(fused[20, 20]) - 200) <= 3
    assert abs(int(fused[44, 44]) - 10) <= 3
    assert abs(int(fused[5, 60]) - 100) <= 2
    # the base is the mean of both
    flat = load_baseline("pyramid").fuse(np.full((64, 64), 40, np.uint8), np.full((64, 64), 101, np.uint8))
    assert np.array_equal(flat, np.full((64, 64), 71))


def test_batches_keep_their_order() -> None:
    fuser = load_baseline("max")
    pairs = [pair(6, 7, seed) for seed in range(3)]
    images = fuser.submit(FusionBatch([p[0] for p in pairs], [p[1] for p in pairs])).result()
    for image, (a, b) in zip(images, pairs, strict=True):
        assert np.array_equal(image, np.maximum(a, b))


@pytest.mark.parametrize("model", RULES)
def test_the_registry_leads_here(model: str) -> None:
    assert model in MODELS and model not in NETWORKS
    fuser = model_factory(model)(model)
    assert (fuser.info.model, fuser.info.precision, fuser.info.device) == (model, "uint8", "cpu")
    assert fuser.info.backend in ("numpy", "opencv")
    again = load_baseline(model, backend=fuser.info.backend, precision="uint8")
    again.close()
    with pytest.raises(EngineError, match="closed"):
        again.fuse(*pair(4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "openvino"},
            "the model 'mean' is a rule without a network: backend = 'openvino' does not apply",
        ),
        (
            {"precision": "bf16"},
            "the model 'mean' is a rule on 8-bit pixels: precision = 'bf16' does not apply",
        ),
        (
            {"engine": "x.plan"},
            "the model 'mean' is a rule without an engine: engine = 'x.plan' does not apply",
        ),
    ],
)
def test_what_does_not_apply_is_refused_in_one_line(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_baseline("mean", **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_unknown_baseline_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown baseline 'pyramide': did you mean 'pyramid'"):
        load_baseline("pyramide")
