"""Registered pairs for training: the committed split, decoding to luma, crops and augmentation.

A data folder holds ``DATASET/ir/STEM.*`` and ``DATASET/vis/STEM.*``. Which pairs train and which
validate is committed in ``train/splits/registered_pairs.csv``. TNO is the test set: any path that
goes through a folder named ``tno`` is refused, also when a link leads there.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.train.data.augmentation import Augmentation
from fusepipe.train.data.camera import displaced, grained, sensed

Split = Literal["train", "validation"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One registered pair: HxW uint8 luma each, same size, both sides even."""

    name: str
    infrared: Luma8
    visible: Luma8


def refuse_test_data(path: Path) -> None:
    """Raises :class:`UsageError` when a part of the path is ``tno`` (any case), as given or with links resolved."""
    for form in (Path(os.path.abspath(path)), path.resolve()):  # noqa: PTH100 - abspath keeps links, resolve does not
        if any(part.casefold() == "tno" for part in form.parts):
            raise UsageError(f"{path} is inside TNO ({form}): TNO is the test set and is never trained on")


def require_folder(folder: Path, what: str) -> None:
    """Raises :class:`SourceError` where there is no such folder and :class:`UsageError` inside TNO."""
    refuse_test_data(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder; name one with {what}")


def read_split(split: Split) -> list[tuple[str, str]]:
    """(dataset, stem) of each pair of the split, in the committed order."""
    text = (resources.files("fusepipe.train") / "splits" / "registered_pairs.csv").read_text(encoding="utf-8")
    return [(row["dataset"], row["stem"]) for row in csv.DictReader(text.splitlines()) if row["split"] == split]


def find_image(folder: Path, stem: str) -> Path:
    """The image of a stem, whatever its suffix; raises :class:`SourceError` when there is none."""
    for suffix in IMAGE_SUFFIXES:
        path = folder / (stem + suffix)
        if path.is_file():
            return path
    known = ", ".join(IMAGE_SUFFIXES)
    raise SourceError(f"{folder}: no image {stem!r} ({known}); --data needs DATASET/ir and DATASET/vis")


def read_luma(path: Path) -> Luma8:
    """An image file as HxW uint8 luma (BT.601 full range for colour files)."""
    refuse_test_data(path)
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SourceError(f"{path}: not an image that can be decoded")
    return np.asarray(image, dtype=np.uint8)


def _fit(image: Luma8, max_side_px: int) -> Luma8:
    while max(image.shape) > max_side_px and min(image.shape) > 1:
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    height, width = (side - side % 2 for side in image.shape)
    return np.ascontiguousarray(image[:height, :width])


def load_pairs(data: Path, pairs: Sequence[tuple[str, str]], max_side_px: int) -> list[Pair]:
    """Reads pairs into memory; see :class:`SourceError` for what can be wrong with them."""
    require_folder(data, "DATASET/ir and DATASET/vis in it")
    loaded = []
    for dataset, stem in pairs:
        infrared = read_luma(find_image(data / dataset / "ir", stem))
        visible = read_luma(find_image(data / dataset / "vis", stem))
        if infrared.shape != visible.shape:
            raise SourceError(f"{dataset}/{stem}: sizes differ: ir {infrared.shape}, vis {visible.shape}")
        loaded.append(Pair(f"{dataset}/{stem}", _fit(infrared, max_side_px), _fit(visible, max_side_px)))
    return loaded


def halves(pairs: Sequence[Pair], least_px: int) -> list[Pair]:
    """The pairs at half their size, of those whose sides then are ``least_px`` or more."""
    large = (pair for pair in pairs if min(pair.visible.shape) // 2 >= least_px)
    return [
        Pair(f"{pair.name}/2", *(_fit(image, max(image.shape) - 1) for image in (pair.infrared, pair.visible)))
        for pair in large
    ]


def read_photograph(path: Path, max_side_px: int) -> Pair:
    """A photograph as a pair with itself: what an auto-encoder learns from."""
    image = _fit(read_luma(path), max_side_px)
    return Pair(path.name, image, image)


def _sized(square: Luma8, side_px: int) -> Luma8:
    """A square image with another side: averaged where that is smaller, interpolated where it is larger."""
    if len(square) == side_px:
        return square
    smaller = cv2.INTER_AREA if side_px < len(square) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=smaller), np.uint8)


class CropSampler:
    """Random augmented crops; all randomness comes from (seed, step), so a run resumes exactly."""

    def __init__(self, pairs: Sequence[Pair], batch: int, crop_px: int, augmentation: Augmentation, seed: int) -> None:
        small = next((p for p in pairs if min(p.visible.shape) < crop_px), None)
        if not pairs or small:
            raise UsageError(
                f"crops of {crop_px} px need pairs at least that large; {small.name if small else 'none given'}"
            )
        self._pairs, self._batch, self._crop_px = pairs, batch, crop_px
        self._augmentation, self._seed = augmentation, seed

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Crops of this step, N x 1 x C x C float32 in [0, 1]: infrared and visible as the network sees them, and
        both as the loss takes them.
        """
        rng = np.random.default_rng((self._seed, step))
        crops = np.stack([self._crop(rng) for _ in range(self._batch)], axis=1)
        return tuple(torch.from_numpy(crops)[:, :, None])

    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """4 x C x C."""
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        options = self._augmentation
        height, width = pair.visible.shape
        side = self._crop_px
        if options.zoom:
            side = min(round(side * np.exp(options.zoom * rng.uniform(-1, 1))), height, width)
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        area = np.s_[y : y + side, x : x + side]
        bands = np.stack([_sized(band[area], self._crop_px) for band in (pair.infrared, pair.visible)])
        both = bands.astype(np.float32) / np.float32(255)
        if rng.random() < 0.5:
            both = both[:, :, ::-1]
        if rng.random() < 0.5:
            both = both[:, ::-1]
        if rng.random() < 0.5:
            both = both.transpose(0, 2, 1)
        if options.swap and rng.random() < options.swap:
            both = both[::-1]
        if options.invert:
            inverted = rng.random(size=(2, 1, 1)) < options.invert
            both = np.where(inverted, 1 - both, both)
        if options.tone:
            power = np.exp(options.tone * rng.uniform(-1, 1, size=(2, 1, 1)) * (rng.random(size=(2, 1, 1)) < 0.5))
            both = both**power
        if rng.random() < 0.5:
            gain = 1 + options.gain * rng.uniform(-1, 1, size=(2, 1, 1))
            offset = options.offset * rng.uniform(-1, 1, size=(2, 1, 1))
            mean = both.mean(axis=(1, 2), keepdims=True)
            both = mean + gain * (both - mean) + offset
        if options.low_light and rng.random() < options.low_light:
            both = both * np.array((1.0, rng.uniform(0.1, 0.5)))[:, None, None]
        if options.grain and rng.random() < 0.5:
            both = np.stack([grained(band, options.grain, rng) for band in both])
        if rng.random() < options.same:
            both = np.stack((both[0], both[0]) if rng.random() < 0.5 else (both[1], both[1]))
        if rng.random() < options.flat:
            both = both.copy()
            both[int(rng.integers(2))] = rng.choice((0.0, rng.random(), 1.0))
        targets = np.ascontiguousarray(both.clip(0.0, 1.0), dtype=np.float32)
        if not (options.blur_px or options.noise or options.shift_px):
            return np.concatenate((targets, targets))
        moved = displaced(targets[0], options.shift_px, rng), targets[1]
        return np.stack((*(sensed(band, options.blur_px, options.noise, rng) for band in moved), *targets))
