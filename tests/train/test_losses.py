"""The losses on fused images: their terms, temporal consistency, targets, detections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.training import require_training

torch = require_training()

from fusepipe.train.losses import fusion as losses
from fusepipe.train.losses.detection import detection_loss
from fusepipe.train.losses.ranking import ranking_loss
from fusepipe.train.losses.targets import target_loss
from fusepipe.train.losses.temporal_consistency import SecondView, temporal_consistency
from fusepipe.train.networks.pyramid import PyramidNet


class TestLosses:
    def test_the_terms_are_zero_where_they_should_be(self) -> None:
        image = torch.rand(2, 1, 24, 24)
        for term in (losses.intensity_loss, losses.gradient_loss, losses.ssim_loss):
            assert float(term(image, image, image)) == pytest.approx(0, abs=1e-5)

    def test_gradient_keeps_the_sign(self) -> None:
        ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
        flat = torch.full_like(ramp, 0.5)
        assert float(losses.gradient_loss(ramp, ramp, flat)) == pytest.approx(0, abs=1e-6)
        assert float(losses.gradient_loss(1 - ramp, ramp, flat)) == pytest.approx(1 / 15, rel=1e-4)

    def test_correlation_of_the_sum_is_nearly_zero(self) -> None:
        torch.manual_seed(0)
        first, second = torch.rand(2, 1, 1, 24, 24) / 2
        assert float(losses.correlation_loss(first + second, first, second)) < 0.01
        assert float(losses.correlation_loss(first, first, second)) > 0.4

    def test_correlation_of_equal_sources_is_left_alone(self) -> None:
        torch.manual_seed(0)
        image, fused = torch.rand(2, 1, 1, 24, 24)
        assert float(losses.correlation_loss(fused, image, image)) == 0

    def test_agreement_is_the_mean_correlation_with_the_sources(self) -> None:
        torch.manual_seed(0)
        first, second = torch.rand(2, 2, 1, 64, 64)
        assert float(losses.agreement_loss(first, first, 1 - first)) == pytest.approx(1, abs=1e-4)
        assert float(losses.agreement_loss(first, first, second)) == pytest.approx(0.5, abs=0.02)

    def test_flat_crops_have_finite_gradients(self) -> None:
        network = PyramidNet(16)
        flat, other = torch.ones(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
        for pair in ((flat, flat), (flat, other)):
            loss, _ = losses.fusion_loss(network(*pair), *pair, losses.LossWeights(1, 1, 1, 1, 1, 1, 1))
            loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)

    def test_ssim_agrees_with_scikit_image(self) -> None:
        skimage = pytest.importorskip("skimage.metrics", reason="an independent SSIM to compare with")
        first, second = torch.rand(2, 1, 1, 40, 40, dtype=torch.float64)
        expected = skimage.structural_similarity(
            first[0, 0].numpy(), second[0, 0].numpy(), win_size=7, data_range=1.0, use_sample_covariance=False
        )
        assert float(losses.mean_ssim(first, second)) == pytest.approx(expected, abs=1e-6)


class TestTemporalConsistency:
    @staticmethod
    def terms(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> tuple[float, float]:
        torch.manual_seed(6)
        images = torch.rand(2, 3, 1, 48, 48) * 0.6 + 0.2
        view = SecondView.at(images[0], 11)
        second = network(*view.seen(images[0], images[1]))
        flicker, luminance = temporal_consistency(images[0], images[1], network(*images), second, view)
        return float(flicker), float(luminance)

    def test_a_calm_network_costs_nothing(self) -> None:
        # the infrared image alone would flicker as much as it does itself, which is above the calm that is asked for
        assert self.terms(lambda ir, vis: (ir + vis).mean(dim=(2, 3), keepdim=True) / 2 + 0 * ir) == (0.0, 0.0)
        assert self.terms(lambda ir, vis: ir)[1] == pytest.approx(0, abs=0.02)

    def test_more_noise_and_larger_steps_than_the_sources_cost(self) -> None:
        flicker = [self.terms(lambda ir, vis, gain=gain: torch.sin(gain * ir))[0] for gain in (1.0, 20.0, 60.0)]
        assert flicker[0] < 1 < flicker[1] < flicker[2]
        luminance = [self.terms(lambda ir, vis, gain=gain: gain * (ir + vis) / 2)[1] for gain in (1.0, 3.0, 6.0)]
        assert luminance[0] < 0.02 < luminance[1] < luminance[2]

    def test_a_second_look_is_the_same_for_the_same_seed(self) -> None:
        image = torch.zeros(4, 1, 8, 8)
        first, again, other = (SecondView.at(image, seed) for seed in (3, 3, 4))
        assert torch.equal(first.noise[0], again.noise[0]) and torch.equal(first.exposure[1], again.exposure[1])
        assert not torch.equal(first.noise[0], other.noise[0])
        assert not torch.equal(first.noise[0], first.noise[1])


class TestRanking:
    @staticmethod
    def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(8)
        infrared, visible = torch.nn.functional.avg_pool2d(torch.rand(2, 1, 72, 72), 5, 1)[:, None]
        return infrared, visible, (infrared + visible) / 2

    def test_equals_share_the_comparisons_and_an_unrelated_image_loses_them(self) -> None:
        infrared, visible, mean = self.pair()
        assert float(ranking_loss(mean, infrared, visible, [mean])) == pytest.approx(0.5, abs=1e-4)
        noise = torch.rand_like(mean)
        # each of the six metrics gives a sixth: without one the values would be .91 and .09
        assert float(ranking_loss(noise, infrared, visible, [mean])) > 0.98
        assert float(ranking_loss(mean, infrared, visible, [noise])) < 0.02

    def test_all_rivals_and_both_sources_count_alike(self) -> None:
        infrared, visible, mean = self.pair()
        fused, rivals = 0.7 * infrared + 0.3 * visible, [mean, torch.rand_like(mean)]
        alone = [float(ranking_loss(fused, infrared, visible, [rival])) for rival in rivals]
        assert alone[0] - alone[1] > 0.1
        assert float(ranking_loss(fused, infrared, visible, rivals)) == pytest.approx(sum(alone) / 2, abs=1e-5)
        swapped = float(ranking_loss(fused, visible, infrared, rivals))
        assert swapped == pytest.approx(sum(alone) / 2, abs=1e-4)

    def test_only_what_can_still_change_a_comparison_has_a_gradient(self) -> None:
        infrared, visible, mean = self.pair()
        slopes = []
        for rival in (mean, torch.rand_like(mean)):
            fused = (0.9 * mean + 0.05).requires_grad_(True)
            ranking_loss(fused, infrared, visible, [rival]).backward()
            assert fused.grad is not None
            slopes.append(float(fused.grad.abs().sum()))
        assert slopes[1] < 0.2 * slopes[0]


class TestTargets:
    @staticmethod
    def scene() -> tuple[torch.Tensor, torch.Tensor]:
        """A warm object before a cold, noisy background, which the visible image does not show."""
        torch.manual_seed(7)
        infrared = 0.2 + 0.02 * torch.rand(1, 1, 96, 96)
        infrared[..., 40:52, 40:46] = 0.8
        return infrared, 0.5 + 0.02 * torch.rand(1, 1, 96, 96)

    def test_lost_warm_objects_cost_and_kept_ones_do_not(self) -> None:
        infrared, visible = self.scene()
        kept, faint, lost = (
            float(target_loss(f, infrared, visible)) for f in (infrared, 0.5 * infrared + 0.5 * visible, visible)
        )
        assert kept < 0.02 * lost
        assert 0.3 * lost < faint < 0.7 * lost

    def test_lost_cold_objects_cost_hardly_anything(self) -> None:
        infrared, visible = self.scene()
        warm, cold = (float(target_loss(visible, image, visible)) for image in (infrared, 1 - infrared))
        assert cold < 0.1 * warm

    def test_a_brighter_object_costs_less_than_a_darker_one(self) -> None:
        infrared, visible = self.scene()
        fused = visible.clone().requires_grad_(True)
        target_loss(fused, infrared, visible).backward()
        assert fused.grad is not None and float(fused.grad[..., 41:51, 41:45].mean()) < 0


class TestDetection:
    @staticmethod
    def found(*people: float, box: float = 0.0) -> torch.Tensor:
        """The output of a detector with one anchor for each person's score."""
        output = torch.zeros(1, len(people), 85)
        output[..., :4] = box
        output[..., 4], output[..., 5] = 1, torch.tensor(people)
        return output

    def test_what_either_source_shows_costs_nothing_where_it_is_found(self) -> None:
        infrared, visible, fused = self.found(0.9, 0.0), self.found(0.0, 0.6), self.found(0.9, 0.6)
        assert float(detection_loss(fused, infrared, visible)) == 0

    def test_lost_false_and_moved_objects_cost(self) -> None:
        infrared, visible = self.found(0.9, 0.0), self.found(0.1, 0.0)
        weaker, lost = (float(detection_loss(self.found(s, 0.0), infrared, visible)) for s in (0.6, 0.1))
        assert 0 < weaker < lost
        assert float(detection_loss(self.found(0.9, 0.5), infrared, visible)) > 0
        assert float(detection_loss(self.found(0.9, 0.0, box=2.0), infrared, visible)) > 0

    def test_unsure_detections_of_the_sources_are_left_alone(self) -> None:
        assert float(detection_loss(self.found(0.0), self.found(0.2), self.found(0.1))) == 0
