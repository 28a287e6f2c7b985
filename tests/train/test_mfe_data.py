"""Images of the trainings of ``mfe``: folders, decoding, what cameras do, crops."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.training import require_training

torch = require_training()

from helpers.made_images import write

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.train.data.camera_effects import CameraEffects, change_pair, change_photograph, cut, displaced, turned
from fusepipe.train.data.crops import PairCrops, PhotographCrops, crop_batches
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import paired_folders, photographs

PLAIN = CameraEffects(**dict.fromkeys(CameraEffects.model_fields, 0.0))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "photos" / f"{n}.png", seed=n) for n in range(5)]


def images() -> DecodedImages:
    return DecodedImages(800)


class TestFolders:
    def test_coco_and_plain_folders(self, tmp_path: Path) -> None:
        for n in range(3):
            write(tmp_path / "coco" / "images" / "train2017" / f"{n}.jpg")
            write(tmp_path / "coco" / "images" / "test2017" / f"{n}.jpg")
        write(tmp_path / "coco" / "images" / "val2017" / "9.jpg")
        split = photographs(tmp_path / "coco")
        assert [path.name for path in split.train] == ["0.jpg", "1.jpg", "2.jpg"]
        assert [path.parent.name for path in split.validation] == ["val2017"]
        for n in range(41):
            write(tmp_path / "plain" / "deep" / f"{n:02}.png")
        split = photographs(tmp_path / "plain", most=10, most_validation=2)
        assert len(split.train) == 10 and len(split.validation) == 2
        assert not set(split.train) & set(split.validation)

    def test_paired_folders(self, tmp_path: Path) -> None:
        for folder, count in (("one", 3), ("two/more", 2)):
            for n in range(count):
                write(tmp_path / folder / "ir" / f"{n}.png")
                write(tmp_path / folder / "vis" / f"{n}.png")
        split = paired_folders(tmp_path)
        assert len(split.train) == 3 and [ir.stem for ir, _ in split.validation] == ["2", "1"]
        with pytest.raises(SourceError, match="no folder below it"):
            paired_folders(tmp_path / "one" / "ir")

    @pytest.mark.parametrize("find", [photographs, paired_folders])
    def test_tno_is_refused(self, find: Any, tmp_path: Path) -> None:
        for band in ("ir", "vis"):
            write(tmp_path / "tno" / "pairs" / band / "a.png")
        (tmp_path / "innocent").symlink_to(tmp_path / "tno")
        for folder in (tmp_path / "tno", tmp_path / "innocent"):
            with pytest.raises(UsageError, match="test set"):
                find(folder)

    def test_tno_below_a_folder_of_pairs_is_refused(self, tmp_path: Path) -> None:
        for band in ("ir", "vis"):
            write(tmp_path / "tno" / "pairs" / band / "a.png")
        with pytest.raises(UsageError, match="test set"):
            paired_folders(tmp_path)


class TestDecoded:
    def test_an_image_is_decoded_once_until_it_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "a.png", 50, 102)
        first = DecodedImages(60)[path]
        assert first.shape == (25, 51)
        with monkeypatch.context() as patch:
            patch.setattr("fusepipe.train.data.decoded.read_training_luma", lambda path: pytest.fail("decoded again"))
            assert np.array_equal(DecodedImages(60)[path], first)
        write(path, 30, 30, seed=1)
        assert DecodedImages(60)[path].shape == (30, 30)

    def test_a_copy_of_the_data_finds_what_was_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, copy = write(tmp_path / "a.png", 50, 102), tmp_path / "elsewhere" / "b.png"
        first = DecodedImages(60)[path]
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
        os.utime(copy, ns=(1, 1))
        with monkeypatch.context() as patch:
            patch.setattr("fusepipe.train.data.decoded.read_training_luma", lambda path: pytest.fail("decoded again"))
            assert np.array_equal(DecodedImages(60)[copy], first)
        assert DecodedImages(800)[copy].shape == (50, 102)

    def test_other_content_of_one_size_and_time_is_decoded(self, tmp_path: Path) -> None:
        """As in two checkouts that were unpacked with the times of an archive."""
        paths = [tmp_path / name / "a.bmp" for name in ("one", "two")]
        for seed, path in enumerate(paths):
            write(path, 20, 30, seed=seed)
            os.utime(path, ns=(1, 1))
        one, two = (np.array(DecodedImages(60)[path]) for path in paths)
        assert paths[0].stat().st_size == paths[1].stat().st_size and not np.array_equal(one, two)

    def test_an_image_that_changes_during_a_run_is_decoded_again(self, tmp_path: Path) -> None:
        path, cache = write(tmp_path / "a.png", 20, 30), DecodedImages(60)
        assert cache[path].shape == (20, 30)
        write(path, 10, 12)
        assert cache[path].shape == (10, 12)

    def test_a_kept_copy_does_not_let_tno_in(self, tmp_path: Path) -> None:
        path, cache = write(tmp_path / "a.png"), DecodedImages(60)
        (tmp_path / "tno").mkdir()
        copy = tmp_path / "tno" / "a.png"
        copy.write_bytes(path.read_bytes())
        assert cache[path].size
        with pytest.raises(UsageError, match="test set"):
            cache[copy]

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"gone\.png: cannot be read: No such file"):
            DecodedImages(60)[tmp_path / "gone.png"]

    def test_a_truncated_file_is_written_again(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.png")
        cache = DecodedImages(800, tmp_path / "kept")
        first = np.array(cache[path])
        (kept,) = (tmp_path / "kept").iterdir()
        kept.write_bytes(kept.read_bytes()[:100])
        assert np.array_equal(cache[path], first)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SourceError, match="XDG_CACHE_HOME"):
            DecodedImages(800, tmp_path / "file" / "below")[write(tmp_path / "a.png")]


class TestCamera:
    def test_small_images_are_reflected(self) -> None:
        image = np.arange(6, dtype=np.uint8).reshape(2, 3)
        assert cut(image, 8, (0.5, 0.5)).shape == (8, 8)
        assert np.array_equal(cut(image, 2, (0.99, 0.99)) * 255, [[1, 2], [4, 5]])

    def test_the_eight_ways_to_turn_are_different(self) -> None:
        image = np.arange(4, dtype=np.float32).reshape(2, 2)
        assert len({turned(image, way).tobytes() for way in range(8)}) == 8

    def test_the_loss_sees_the_scene_and_the_network_the_sensor(self) -> None:
        rng = np.random.default_rng(0)
        infrared, visible = rng.random((2, 32, 32), np.float32)
        clean = change_pair(infrared, visible, PLAIN, np.random.default_rng(1))
        assert np.array_equal(clean.infrared, clean.infrared_target)
        camera = PLAIN.model_copy(update={"noise": 0.1, "blur_px": 1.5, "shift_px": 2.0})
        seen = change_pair(infrared, visible, camera, np.random.default_rng(1))
        assert np.array_equal(seen.infrared_target, clean.infrared) and np.array_equal(
            seen.visible_target, clean.visible
        )
        assert not np.array_equal(seen.infrared, clean.infrared) and not np.array_equal(seen.visible, clean.visible)

    def test_low_light_swaps_and_equal_bands(self) -> None:
        infrared, visible = np.full((32, 32), 0.2, np.float32), np.full((32, 32), 0.8, np.float32)

        def levels_of(**options: float) -> set[tuple[float, float]]:
            camera = PLAIN.model_copy(update=options)
            pairs = [change_pair(infrared, visible, camera, np.random.default_rng(n)) for n in range(40)]
            return {(round(float(p.infrared[0, 0]), 2), round(float(p.visible[0, 0]), 2)) for p in pairs}

        assert levels_of() == {(0.2, 0.8)}
        assert levels_of(swap=0.5) == {(0.2, 0.8), (0.8, 0.2)}
        assert levels_of(same=1.0) == {(0.2, 0.2), (0.8, 0.8)}
        assert all(ir == 0.2 and 0.07 <= vis <= 0.41 for ir, vis in levels_of(low_light=1.0))

    def test_misregistration_has_the_given_size(self) -> None:
        image = np.zeros((64, 64), np.float32)
        image[8:12, 8:12] = image[52:56, 52:56] = 1
        moved = [displaced(image, 3.0, np.random.default_rng(n)) for n in range(30)]

        def centre(made: np.ndarray) -> np.ndarray:
            y, x = np.mgrid[:32, :32]
            return np.array([(y * made[:32, :32]).sum(), (x * made[:32, :32]).sum()]) / made[:32, :32].sum()

        distances = [float(np.linalg.norm(centre(made) - 9.5)) for made in moved]
        assert np.mean(distances) > 0.5 and max(distances) <= 3.5

    def test_photographs_stay_in_range(self) -> None:
        camera = CameraEffects(swap=0, same=0, flat=0, low_light=0.5)
        for n in range(20):
            made = change_photograph(
                np.random.default_rng(n).random((16, 16), np.float32), camera, np.random.default_rng(n)
            )
            assert made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1


class TestCrops:
    def test_they_depend_on_the_seed_and_the_number_alone(self, files: list[Path]) -> None:
        def made(seed: int, number: int) -> bytes:
            return bytes(PhotographCrops(files, images(), 32, CameraEffects(), seed)[number][0].tobytes())

        assert made(0, 3) == made(0, 3) and len({made(0, 3), made(0, 4), made(1, 3)}) == 3

    @pytest.mark.slow
    def test_workers_and_processes_give_what_one_process_gives(self, files: list[Path]) -> None:
        pairs = list(pairwise(files))
        crops = PairCrops(pairs, images(), 24, CameraEffects(noise=0.1, shift_px=2), 3)
        with crop_batches(crops, 2, 5, 4, workers=0) as fetched:
            whole = list(fetched)
        assert len(whole) == 3 and [tuple(part.shape) for part in whole[0]] == [(4, 1, 24, 24)] * 4
        with crop_batches(crops, 2, 5, 4, workers=2) as fetched:
            assert all(
                torch.equal(a, b) for x, y in zip(whole, fetched, strict=True) for a, b in zip(x, y, strict=True)
            )
        for rank in range(2):
            with crop_batches(crops, 2, 5, 4, workers=0, rank=rank, world=2) as fetched:
                own = slice(2 * rank, 2 * rank + 2)
                parts = zip(whole, fetched, strict=True)
                assert all(torch.equal(a[own], b) for x, y in parts for a, b in zip(x, y, strict=True))

    @pytest.mark.slow
    def test_what_is_wrong_with_an_image_is_reported_in_one_line(self, files: list[Path]) -> None:
        files[0].write_bytes(b"no image")
        crops = PhotographCrops(files[:1], images(), 24, CameraEffects(), 0)
        with crop_batches(crops, 0, 1, 1, workers=1) as fetched, pytest.raises(SourceError) as caught:
            next(fetched)
        assert str(caught.value) == f"{files[0]}: not an image that can be decoded"
