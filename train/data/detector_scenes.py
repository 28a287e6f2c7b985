"""Registered pairs with the visible image in colour, for losses on what a detector sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.train.data.image_folders import PairFiles
from fusepipe.train.data.training_images import read_training_luma, reduced, refuse_test_data


@dataclass(frozen=True, slots=True, eq=False)
class DetectorScene:
    """An infrared image (HxW uint8), and the visible one as luma, Cr and Cb (HxWx3 uint8, BT.601 full range)."""

    dataset: str
    infrared: Luma8
    visible: NDArray[np.uint8]


def detector_scenes(files: Mapping[tuple[str, str], PairFiles], max_side_px: int) -> Iterator[DetectorScene]:
    """The pairs, halved until no side is longer than ``max_side_px``; raises :class:`SourceError` where unreadable."""
    for (dataset, _), (infrared, visible) in files.items():
        colour = reduced(_read_colour(visible), max_side_px)
        luma = reduced(read_training_luma(infrared), max_side_px)
        if luma.shape != colour.shape[:2]:
            raise SourceError(f"{infrared} and {visible}: sizes differ ({luma.shape}, {colour.shape[:2]})")
        yield DetectorScene(dataset, luma, np.asarray(cv2.cvtColor(colour, cv2.COLOR_BGR2YCrCb), np.uint8))


def _read_colour(path: Path) -> NDArray[np.uint8]:
    refuse_test_data(path)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SourceError(f"{path}: not an image that can be decoded")
    return np.asarray(image, np.uint8)
