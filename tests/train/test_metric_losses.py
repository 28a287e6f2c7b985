"""The differentiable metrics follow the metrics they stand for, and can be trained on."""

import cv2
import numpy as np
import pytest
from helpers.training import require_training

torch = require_training()

from fusepipe.evaluation.metrics.fidelity import vif_sum
from fusepipe.evaluation.metrics.gradients import qabf
from fusepipe.evaluation.metrics.information import mutual_information
from fusepipe.train.losses import metric_losses
from fusepipe.train.losses.windows import window_mean


def scene(seed, size=512):
    """Blobs of all sizes and a little noise: uint8, as smooth as photographs are."""
    rng = np.random.default_rng(seed)
    image = sum(cv2.GaussianBlur(rng.standard_normal((size, size)), (0, 0), s) * s for s in (1, 3, 9, 27))
    image = (image - image.min()) / (image.max() - image.min())
    return np.round(255 * image).astype(np.uint8)


def tensor(image):
    return torch.from_numpy(image)[None, None].double() / 255


INFRARED, VISIBLE = scene(1), scene(2)
FUSED = {
    "mean": np.uint8((INFRARED.astype(int) + VISIBLE) // 2),
    "max": np.maximum(INFRARED, VISIBLE),
    "blurred": cv2.GaussianBlur(np.maximum(INFRARED, VISIBLE), (0, 0), 2),
    "visible": VISIBLE,
    "negative": 255 - INFRARED,
}


@pytest.mark.parametrize("name", FUSED)
def test_visual_information_is_near_the_metric(name):
    fused = FUSED[name]
    value = metric_losses.visual_information(tensor(INFRARED), tensor(fused)) + metric_losses.visual_information(
        tensor(VISIBLE), tensor(fused)
    )
    assert float(value) == pytest.approx(vif_sum(INFRARED, VISIBLE, fused), rel=0.15, abs=0.01)


@pytest.mark.parametrize("name", FUSED)
def test_edge_preservation_is_near_the_metric(name):
    # The metric counts the frame of zeros around the image, the loss does not.
    fused = FUSED[name]
    value = metric_losses.edge_preservation(tensor(INFRARED), tensor(VISIBLE), tensor(fused))
    assert float(value) == pytest.approx(qabf(INFRARED, VISIBLE, fused, variant="common"), abs=0.035)


def test_mutual_information_orders_as_the_metric_does():
    exact = {n: mutual_information(INFRARED, VISIBLE, f) for n, f in FUSED.items()}
    value = {
        n: float(
            metric_losses.soft_mutual_information(tensor(INFRARED), tensor(f))
            + metric_losses.soft_mutual_information(tensor(VISIBLE), tensor(f))
        )
        for n, f in FUSED.items()
    }
    assert sorted(exact, key=exact.get) == sorted(value, key=value.get)
    noise = torch.rand(1, 1, 512, 512, dtype=torch.float64)
    assert float(metric_losses.soft_mutual_information(tensor(INFRARED), noise)) < 0.2


def test_each_image_of_a_batch_counts_by_itself():
    sources = torch.cat((tensor(INFRARED), tensor(VISIBLE)))
    fused = torch.cat((tensor(FUSED["max"]), tensor(FUSED["mean"])))
    for one in (metric_losses.visual_information, metric_losses.soft_mutual_information):
        each = torch.cat([one(sources[i : i + 1], fused[i : i + 1]) for i in (0, 1)])
        assert torch.allclose(one(sources, fused), each)


def test_values_beyond_the_range_give_no_nan():
    fused = (3 * tensor(INFRARED) - 1).requires_grad_()
    value = metric_losses.soft_mutual_information(tensor(INFRARED), fused).sum()
    value.backward()
    assert bool(value.isfinite()) and bool(fused.grad.isfinite().all())


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_flat_images_have_finite_values_and_slopes(level):
    flat = torch.full((1, 1, 64, 64), level)
    for start in (flat, torch.rand(1, 1, 64, 64)):
        fused = start.clone().requires_grad_()
        value = (
            metric_losses.visual_information(flat, fused)
            + metric_losses.edge_preservation(flat, flat, fused)
            + metric_losses.soft_mutual_information(flat, fused)
        ).sum()
        value.backward()
        assert bool(value.isfinite()) and bool(fused.grad.isfinite().all())


@pytest.mark.parametrize("window", [1, 2, 3, 7, 11])
def test_window_means_are_those_of_average_pooling(window):
    image = torch.rand(2, 1, 20, 31, dtype=torch.float64)
    pooled = torch.nn.functional.avg_pool2d(image, window, stride=1)
    assert torch.allclose(window_mean(image, window), pooled)
    weights = torch.rand_like(pooled)
    gradients = [
        torch.autograd.grad((mean(image.requires_grad_()) * weights).sum(), image)[0]
        for mean in (
            lambda x: window_mean(x, window),
            lambda x: torch.nn.functional.avg_pool2d(x, window, stride=1),
        )
    ]
    assert torch.allclose(*gradients)
