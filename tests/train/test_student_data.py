"""The students' data: split, decoding, the teacher's images, variants, crops, scenes for the detector."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.training import require_training, write_pairs

from fusepipe.core.errors import SourceError, UsageError

torch = require_training()

from helpers.made_pairs import make_pairs

from fusepipe.core.frames import Luma8
from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.detector_scenes import detector_scenes
from fusepipe.train.data.pairs import load_pairs
from fusepipe.train.data.sampler import CropSampler
from fusepipe.train.data.sensors import Sensors
from fusepipe.train.data.split import BASE_SETS, read_split
from fusepipe.train.data.teacher_crops import DistillationCrops
from fusepipe.train.data.teacher_pairs import FORMS, DistillationPair, Teacher, distillation_pairs, split_files
from fusepipe.train.data.training_images import read_training_luma
from fusepipe.train.data.variants import flat, variant
from fusepipe.train.session import student as session


class TestData:
    def test_no_test_image_is_in_the_split(self) -> None:
        training, validation = read_split("train"), read_split("validation")
        assert len(training) > 200 and len(validation) > 20
        assert not set(training) & set(validation)
        sets = {dataset for dataset, _ in training + validation}
        assert sets == {*BASE_SETS, "m3svd", "m3fd", "msrs_more", "kaist", "llvip_more"}

    def test_scenes_of_the_test_videos_are_not_trained_on(self) -> None:
        for dataset, stem in read_split("train"):
            assert dataset != "m3svd" or not stem.startswith(("0111_1716", "0114_1609"))

    def test_mfe_and_the_baselines_keep_their_sets(self) -> None:
        training, validation = read_split("train", BASE_SETS), read_split("validation", BASE_SETS)
        assert (len(training), len(validation)) == (242, 26)
        assert {dataset for dataset, _ in training} == set(BASE_SETS)

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
            read_training_luma(tmp_path / "msrs" / "a.png")
        # a folder named tno that links elsewhere
        (tmp_path / "real").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "tno").symlink_to(tmp_path / "real")
        with pytest.raises(UsageError, match="test set"):
            load_pairs(tmp_path / "other" / "tno", [("msrs", "x")], 800)

    def test_the_upper_bits_of_16_bit_images_are_taken(self, tmp_path: Path) -> None:
        counts = np.array([[0, 255, 256], [0x1234, 0x80FF, 0xFFFF]], np.uint16)
        for suffix in ("png", "tiff"):
            cv2.imwrite(str(tmp_path / f"a.{suffix}"), counts)
            assert np.array_equal(read_training_luma(tmp_path / f"a.{suffix}"), counts >> 8)

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

    def test_crops_depend_on_seed_and_step_only(self) -> None:
        def crops(seed: int, step: int) -> bytes:
            infrared, visible = CropSampler(make_pairs(), 4, 32, seed).batch(step)
            assert infrared.shape == visible.shape == (4, 1, 32, 32)
            assert float(infrared.min()) >= 0 and float(infrared.max()) <= 1
            return bytes(infrared.numpy().tobytes() + visible.numpy().tobytes())

        assert crops(1, 7) == crops(1, 7)
        assert len({crops(1, 7), crops(1, 8), crops(2, 7)}) == 3

    def test_crops_larger_than_a_pair_are_refused(self) -> None:
        with pytest.raises(UsageError, match="crops of 64 px"):
            CropSampler(make_pairs(), 1, 64, 0)


class MeanTeacher(Teacher):
    """The mean of both images, counting its calls."""

    def __init__(self, fingerprint: str = "mean") -> None:
        self.fingerprint, self.calls = fingerprint, 0
        self.fuse = self._fuse

    def _fuse(self, infrared: Luma8, visible: Luma8) -> Luma8:
        self.calls += 1
        return np.asarray((infrared.astype(int) + visible) // 2, np.uint8)


class TestDistillationPairs:
    @staticmethod
    def made(data: Path, teacher: Teacher, forms: tuple[str, ...] = FORMS) -> list[DistillationPair]:
        files = split_files(data, [("made", "a"), ("made", "b")])
        return list(distillation_pairs(files, forms, teacher, DecodedImages(800)))

    def test_each_form_is_fused_once_and_found_by_later_runs(self, tmp_path: Path) -> None:
        data, teacher, again = write_pairs(tmp_path), MeanTeacher(), MeanTeacher()
        first, second = self.made(data, teacher), self.made(data, again)
        assert [pair.form for pair in first] == [*FORMS, *FORMS] and (teacher.calls, again.calls) == (8, 0)
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(one.images, other.images)
            infrared, visible, fused = one.images
            assert np.array_equal(fused, again.fuse(infrared, visible))
        whole, half = first[:2]
        assert half.images.shape[1:] == tuple(side // 2 for side in whole.images.shape[1:])
        assert np.array_equal(whole.images[0], read_training_luma(data / "made" / "ir" / "a.png"))

    def test_a_stopped_preparation_continues(self, tmp_path: Path) -> None:
        data, teacher = write_pairs(tmp_path), MeanTeacher()
        next(iter(self.made(data, teacher, ("half",))))
        self.made(data, teacher)
        assert teacher.calls == 8

    def test_another_teacher_and_another_image_are_fused_again(self, tmp_path: Path) -> None:
        data, other = write_pairs(tmp_path), MeanTeacher("other")
        self.made(data, MeanTeacher())
        assert len(self.made(data, other)) == other.calls
        cv2.imwrite(str(data / "made" / "ir" / "a.png"), np.full((48, 64), 3, np.uint8))
        changed = MeanTeacher()
        assert int(self.made(data, changed)[0].images[0].max()) == 3 and changed.calls == len(FORMS)

    def test_a_new_checkout_of_the_data_is_not_fused_again(self, tmp_path: Path) -> None:
        data, teacher = write_pairs(tmp_path / "first"), MeanTeacher()
        self.made(write_pairs(tmp_path / "second"), MeanTeacher())
        for number, path in enumerate(sorted(data.rglob("*.png"))):
            os.utime(path, (number, number))
        assert len(self.made(data, teacher)) == 8 and teacher.calls == 0

    @pytest.mark.parametrize("form", ["variant", "flat"])
    def test_the_same_images_under_two_names_are_changed_twice(self, tmp_path: Path, form: str) -> None:
        """Whichever was made first: what is changed depends on the name."""
        data, teacher = write_pairs(tmp_path), MeanTeacher()
        for band in ("ir", "vis"):
            shutil.copyfile(data / "made" / band / "a.png", data / "made" / band / "b.png")
        one, other = self.made(data, teacher, (form,))
        assert teacher.calls == 2 and not np.array_equal(one.images, other.images)
        whole, same = self.made(data, teacher, ("full",))
        assert teacher.calls == 3 and np.array_equal(whole.images, same.images)

    def test_missing_images_are_reported(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no image 'z'"):
            split_files(write_pairs(tmp_path), [("made", "z")])
        with pytest.raises(UsageError, match="test set"):
            split_files(tmp_path / "tno", [])


class TestVariants:
    def test_they_depend_on_the_name_only(self) -> None:
        (pair,) = make_pairs(1)
        one, again, other = (variant(pair.infrared, pair.visible, name) for name in ("s/a", "s/a", "s/b"))
        assert all(map(np.array_equal, one, again)) and not all(map(np.array_equal, one, other))

    def test_they_cover_what_thermal_cameras_do(self) -> None:
        ramp = np.tile(np.arange(32, 224, 2, dtype=np.uint8), (96, 1))
        made = [variant(ramp, ramp, str(n))[0].astype(int) for n in range(60)]
        slopes = [image[48, 70] - image[48, 26] for image in made]
        assert any(slope < 0 for slope in slopes), "the other polarity"
        assert any(0 < slope < 53 for slope in slopes), "flat contrast"
        assert any(slope > 100 for slope in slopes), "a jump of gain"
        assert any(not image[:, 0].any() or not image[0].any() for image in made), "black borders"

    def test_flat_infrared_has_little_contrast_around_any_level(self) -> None:
        ramp = np.tile(np.arange(32, 224, 2, dtype=np.uint8), (96, 1))
        made = [flat(ramp, str(n)).astype(float) for n in range(60)]
        assert np.array_equal(flat(ramp, "a"), flat(ramp, "a"))
        assert all(5 < image.std() < 36 for image in made)
        means = np.array([image.mean() for image in made])
        assert (means < 62).any() and (means > 110).any() and (means > 61).mean() > 0.5
        assert all(np.all(np.diff(image.mean(axis=0)) >= 0) for image in made), "warm stays bright"
        assert flat(np.full((8, 8), 40, np.uint8), "a").std() == 0, "an image without contrast gets none"


class TestDistillationCrops:
    @staticmethod
    def pairs() -> list[DistillationPair]:
        rng = np.random.default_rng(1)
        return [
            DistillationPair(dataset, "a", form, rng.integers(low, low + 40, (3, 96, 128), np.uint8))
            for dataset, form, low in (("one", "full", 0), ("one", "half", 60), ("two", "full", 120))
        ]

    def crops(self, seed: int = 0, **changes: object) -> DistillationCrops:
        given = {"batch": 4, "crop_px": 64, "sensors": Sensors(noise=0, jpeg=0, same=0), "seed": seed, **changes}
        return DistillationCrops(self.pairs(), {"one": 1.0, "two": 1.0}, {"full": 1.0, "half": 1.0}, **given)  # type: ignore[arg-type]

    def test_they_depend_on_seed_and_step_only(self) -> None:
        made = {
            key: b"".join(part.numpy().tobytes() for part in self.crops(key[0], sensors=Sensors()).batch(key[1]))
            for key in ((1, 7), (1, 8), (2, 7))
        }
        assert len(set(made.values())) == 3
        again = self.crops(1, sensors=Sensors()).batch(7)
        assert b"".join(part.numpy().tobytes() for part in again) == made[1, 7]
        assert [tuple(part.shape) for part in again] == [(4, 1, 64, 64)] * 5

    def test_sets_and_forms_are_drawn_by_weight(self) -> None:
        levels = self.crops(batch=400).batch(0)[2].mean(dim=(1, 2, 3)) * 255
        counts = [int(((levels > low) & (levels < low + 40)).sum()) for low in (0, 60, 120)]
        assert counts[0] == pytest.approx(400 / 3, abs=40) and counts[1] == pytest.approx(400 / 3, abs=40)
        assert sum(counts) == 400

    def test_sensors_change_what_the_network_sees_alone(self) -> None:
        plain = self.crops().batch(3)
        assert torch.equal(plain[0], plain[2]) and torch.equal(plain[1], plain[3])
        for sensors in (Sensors(noise=0.1, jpeg=0, same=0), Sensors(noise=0, jpeg=1, same=0)):
            batch = self.crops(sensors=sensors).batch(3)
            assert 0.001 < float((batch[0] - batch[2]).abs().mean()) < 0.1
            assert float(batch[4].min()) >= 0 and float(batch[4].max()) <= 1

    def test_equal_bands_have_themselves_as_the_teachers_image(self) -> None:
        _, _, *targets = self.crops(sensors=Sensors(noise=0, jpeg=0, same=1)).batch(0)
        assert torch.equal(targets[0], targets[1]) and torch.equal(targets[0], targets[2])

    def test_crops_larger_than_every_pair_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"crops of 128 px need pairs of 128 px or more"):
            self.crops(crop_px=128)

    def test_with_a_batch_of_one_smaller_images_are_taken_whole(self) -> None:
        batches = [self.crops(batch=1, crop_px=112).batch(step) for step in range(12)]
        assert {tuple(part.shape) for batch in batches for part in batch} == {(1, 1, 96, 112), (1, 1, 112, 96)}
        assert {tuple(part.shape[2:]) for part in self.crops(batch=1, crop_px=400).batch(1)} <= {(96, 128), (128, 96)}
        infrared = float(self.crops(batch=1, crop_px=400).batch(1)[2].mean())
        assert any(abs(infrared - float(pair.images[0].mean()) / 255) < 1e-5 for pair in self.pairs())

    def test_images_that_are_too_small_for_the_losses_are_left_out(self) -> None:
        small = DistillationPair("one", "a", "full", np.zeros((3, 48, 128), np.uint8))
        with pytest.raises(UsageError, match="need pairs of 64 px or more"):
            DistillationCrops([small], {"one": 1.0}, {"full": 1.0}, batch=1, crop_px=800, sensors=Sensors(), seed=0)


def test_a_scene_has_the_visible_image_in_colour(tmp_path: Path) -> None:
    data = write_pairs(tmp_path)
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(data / "made" / "vis" / "a.png"), red)
    (scene,) = detector_scenes(split_files(data, [("made", "a")]), 32)
    assert scene.infrared.shape == (24, 32) and scene.visible.shape == (24, 32, 3)
    assert scene.visible[0, 0].tolist() == pytest.approx([76, 255, 85], abs=1)
