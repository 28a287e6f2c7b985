"""Pairs and photographs in memory, decoded to luma.

A data folder of pairs holds ``DATASET/ir/STEM.*`` and ``DATASET/vis/STEM.*``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.train.data.image_folders import images_below
from fusepipe.train.data.training_images import IMAGE_SUFFIXES, find_image, read_training_luma, reduced, require_folder


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One registered pair: HxW uint8 luma each, same size, both sides even."""

    name: str
    infrared: Luma8
    visible: Luma8


def _fit(image: Luma8, max_side_px: int) -> Luma8:
    """Halved until no side is longer than ``max_side_px``, then cut to even sides."""
    image = reduced(image, max_side_px)
    height, width = (side - side % 2 for side in image.shape)
    return np.ascontiguousarray(image[:height, :width])


def load_pairs(data: Path, pairs: Sequence[tuple[str, str]], max_side_px: int) -> list[Pair]:
    """Reads pairs into memory; raises :class:`SourceError` for missing or unreadable images and for different sizes."""
    require_folder(data, "DATASET/ir and DATASET/vis in it")
    loaded = []
    for dataset, stem in pairs:
        infrared = read_training_luma(find_image(data / dataset / "ir", stem))
        visible = read_training_luma(find_image(data / dataset / "vis", stem))
        if infrared.shape != visible.shape:
            raise SourceError(f"{dataset}/{stem}: sizes differ: ir {infrared.shape}, vis {visible.shape}")
        loaded.append(Pair(f"{dataset}/{stem}", _fit(infrared, max_side_px), _fit(visible, max_side_px)))
    return loaded


def load_photographs(folder: Path, max_side_px: int) -> list[Pair]:
    """All photographs below a folder in the order of their names, each as a pair with itself (for auto-encoders).

    Raises :class:`SourceError` when there are fewer than two and :class:`UsageError` inside TNO.
    """
    paths = images_below(folder)
    if len(paths) < 2:
        raise SourceError(f"{folder}: {len(paths)} photographs ({', '.join(IMAGE_SUFFIXES)}); training needs many")
    images = [(path.name, _fit(read_training_luma(path), max_side_px)) for path in paths]
    return [Pair(name, image, image) for name, image in images]
