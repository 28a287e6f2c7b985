"""The student's losses and data: split, decoding, crops, what cameras do."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.training import require_training

from fusepipe.core.errors import SourceError, UsageError

torch = require_training()

from helpers.made_pairs import make_pairs

from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.augmentation import Augmentation
from fusepipe.train.data.images import read_luma
from fusepipe.train.data.pairs import Pair, halves, load_pairs
from fusepipe.train.data.sampler import CropSampler
from fusepipe.train.data.split import read_split
from fusepipe.train.losses import fusion as losses
from fusepipe.train.networks.student import StudentNet
from fusepipe.train.session import student as session


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

    def test_flat_crops_have_finite_gradients(self) -> None:
        network = StudentNet()
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
        assert float(losses.ssim(first, second)) == pytest.approx(expected, abs=1e-6)


class TestData:
    def test_no_test_image_is_in_the_split(self) -> None:
        training, validation = read_split("train"), read_split("validation")
        assert len(training) > 200 and len(validation) > 20
        assert not set(training) & set(validation)
        assert {dataset for dataset, _ in training + validation} == {"roadscene", "msrs", "llvip"}

    @pytest.mark.parametrize("name", ["tno", "TNO", "Tno"])
    def test_tno_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / name / "pairs"
        folder.mkdir(parents=True)
        for path in (folder, Path(os.path.relpath(folder)), folder / ".." / "pairs"):
            with pytest.raises(UsageError, match="test set"):
                load_pairs(path, [("msrs", "x")], 800)
            with pytest.raises(UsageError, match="test set"):
                session.train_student(StudentConfig(), path, tmp_path / "out")

    def test_tno_is_refused_through_links_either_way(self, tmp_path: Path) -> None:
        (tmp_path / "tno" / "ir").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "tno" / "ir" / "a.png"), np.zeros((8, 8), np.uint8))
        (tmp_path / "innocent").symlink_to(tmp_path / "tno")
        with pytest.raises(UsageError, match="test set"):
            load_pairs(tmp_path / "innocent", [("msrs", "x")], 800)
        # one file linked into a data set
        (tmp_path / "msrs").mkdir()
        (tmp_path / "msrs" / "a.png").symlink_to(tmp_path / "tno" / "ir" / "a.png")
        with pytest.raises(UsageError, match="test set"):
            read_luma(tmp_path / "msrs" / "a.png")
        # a folder named tno that links elsewhere
        (tmp_path / "real").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "tno").symlink_to(tmp_path / "real")
        with pytest.raises(UsageError, match="test set"):
            load_pairs(tmp_path / "other" / "tno", [("msrs", "x")], 800)

    def test_pairs_are_read_halved_and_made_even(self, tmp_path: Path) -> None:
        for band in ("ir", "vis"):
            folder = tmp_path / "set" / band
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "a.png"), np.full((51, 103, 3), 90, np.uint8))
        (pair,) = load_pairs(tmp_path, [("set", "a")], 60)
        assert pair.infrared.shape == pair.visible.shape == (26, 52) and int(pair.visible[0, 0]) == 90
        with pytest.raises(SourceError, match="no image 'b'"):
            load_pairs(tmp_path, [("set", "b")], 60)
        cv2.imwrite(str(tmp_path / "set" / "ir" / "a.png"), np.zeros((50, 103), np.uint8))
        with pytest.raises(SourceError, match="sizes differ"):
            load_pairs(tmp_path, [("set", "a")], 60)

    def test_halves_are_made_of_pairs_in_which_a_crop_still_fits(self) -> None:
        large, small = (
            Pair(n, np.full(s, 7, np.uint8), np.full(s, 9, np.uint8)) for n, s in (("l", (66, 98)), ("s", (62, 98)))
        )
        (half,) = halves([large, small], 32)
        assert half.name == "l/2" and half.infrared.shape == half.visible.shape == (32, 48)
        assert int(half.infrared.max()) == 7 and int(half.visible.min()) == 9

    def test_crops_depend_on_seed_and_step_only(self) -> None:
        def crops(seed: int, step: int) -> bytes:
            sampler = CropSampler(make_pairs(), 4, 32, Augmentation(noise=0.02, flat=0.5), seed)
            infrared, visible, *_ = sampler.batch(step)
            assert infrared.shape == visible.shape == (4, 1, 32, 32)
            assert float(infrared.min()) >= 0 and float(infrared.max()) <= 1
            return bytes(infrared.numpy().tobytes() + visible.numpy().tobytes())

        assert crops(1, 7) == crops(1, 7)
        assert len({crops(1, 7), crops(1, 8), crops(2, 7)}) == 3

    def test_bands_are_exchanged_and_inverted(self) -> None:
        infrared, visible = np.full((32, 32), 51, np.uint8), np.full((32, 32), 204, np.uint8)
        plain = {"gain": 0.0, "offset": 0.0, "same": 0.0, "flat": 0.0}

        def levels(**options: float) -> set[tuple[int, int]]:
            augmentation = Augmentation(**{**plain, **options})
            crops = CropSampler([Pair("a", infrared, visible)], 64, 32, augmentation, 0).batch(0)[:2]
            pairs = zip(*(c[:, 0, 0, 0].mul(255).round().int().tolist() for c in crops), strict=True)
            return set(pairs)

        assert levels() == {(51, 204)}
        assert levels(swap=0.5) == {(51, 204), (204, 51)}
        assert levels(invert=0.5) == {(51, 204), (204, 204), (51, 51), (204, 51)}
        assert levels(same=1.0) == {(51, 51), (204, 204)}

    def test_what_the_sensor_adds_is_seen_by_the_network_alone(self) -> None:
        (pair,) = make_pairs(1)

        def crops(**options: float) -> list[torch.Tensor]:
            return list(CropSampler([pair], 1, 32, Augmentation(**options), 0).batch(0))

        infrared, visible, infrared_target, visible_target = crops()
        assert torch.equal(infrared, infrared_target) and torch.equal(visible, visible_target)
        noisy = crops(noise=0.1)
        assert torch.equal(noisy[2], infrared_target) and torch.equal(noisy[3], visible_target)
        for seen, target in zip(noisy[:2], noisy[2:], strict=True):
            assert 0.005 < float((seen - target).abs().mean()) < 0.1
        shifted = crops(shift_px=2.0)
        assert torch.equal(shifted[1], visible_target) and not torch.equal(shifted[0], infrared_target)

    def test_a_crop_shows_more_or_less_of_the_scene(self) -> None:
        columns = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (128, 1))
        ramp = Pair("ramp", columns, columns)

        def spans(**options: float) -> torch.Tensor:
            plain = Augmentation(gain=0, offset=0, same=0, flat=0, **options)
            infrared = CropSampler([ramp], 64, 32, plain, 0).batch(0)[0]
            return (infrared.amax(dim=(1, 2, 3)) - infrared.amin(dim=(1, 2, 3))) * 255 / 2

        assert bool((spans().round() == 31).all())
        zoomed = spans(zoom=0.405)
        assert 19 <= float(zoomed.min()) < 24 and 42 < float(zoomed.max()) <= 48
        assert bool((spans(zoom=1.39).round() <= 127).all()), "never more than the picture"

    def test_tones_change_in_half_of_the_bands_and_low_light_darkens_the_visible_one(self) -> None:
        flat = Pair("a", np.full((32, 32), 64, np.uint8), np.full((32, 32), 128, np.uint8))

        def levels(**options: float) -> torch.Tensor:
            plain = Augmentation(gain=0, offset=0, same=0, flat=0, **options)
            return torch.stack(CropSampler([flat], 200, 32, plain, 0).batch(0)[:2])[:, :, 0, 0, 0] * 255

        infrared, visible = levels(tone=0.5)
        for band, level in ((infrared, 64.0), (visible, 128.0)):
            assert 70 < int((band.round() == level).sum()) < 130
            powers = torch.log(band / 255) / np.log(level / 255)
            assert 0.6 < float(powers.min()) < 0.7 and 1.5 < float(powers.max()) < 1.66
        infrared, visible = levels(low_light=0.5)
        assert bool((infrared.round() == 64).all())
        assert 70 < int((visible.round() == 128).sum()) < 130 and 12 <= float(visible.min()) < 30

    def test_grain_is_part_of_the_images_in_half_of_the_crops(self) -> None:
        flat = Pair("a", np.full((32, 32), 51, np.uint8), np.full((32, 32), 204, np.uint8))
        only = Augmentation(gain=0, offset=0, same=0, flat=0, grain=0.1)
        infrared, visible, *targets = CropSampler([flat], 64, 32, only, 0).batch(0)
        assert torch.equal(infrared, targets[0]) and torch.equal(visible, targets[1])
        deviations = infrared.flatten(1).std(dim=1)
        assert 16 < int((deviations > 0).sum()) < 48 and 0.07 < float(deviations.max()) < 0.11

    def test_crops_larger_than_a_pair_are_refused(self) -> None:
        with pytest.raises(UsageError, match="crops of 64 px"):
            CropSampler(make_pairs(), 1, 64, Augmentation(), 0)
