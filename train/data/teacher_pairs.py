"""Pairs beside their fused image by the teacher, in several forms; each is computed once and kept on disk.

The teacher is a shipped network that fuses whole images in fp32. Its images are kept beside the decoded ones
(:mod:`fusepipe.train.data.decoded`), so an interrupted preparation continues where it stopped, and later runs find
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Luma8
from fusepipe.train.data.crops import read_pair
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import PairFiles
from fusepipe.train.data.training_images import find_image, require_folder
from fusepipe.train.data.variants import VERSION, flat, half, variant

FORMS = ("full", "half", "variant", "flat")
"""As decoded, at half size, with the changes of :func:`fusepipe.train.data.variants.variant`, and with its ``flat``."""
_DRAWN = FORMS[2:]  # whose changes depend on the pair's name


@dataclass(frozen=True, slots=True, eq=False)
class DistillationPair:
    """A pair in one of its forms: ``images`` are infrared, visible and the teacher's, 3 x H x W uint8."""

    dataset: str
    stem: str
    form: str
    images: NDArray[np.uint8]

    @property
    def side_px(self) -> int:
        """The shorter side."""
        _, height, width = self.images.shape
        return int(min(height, width))


class Teacher:
    """The whole-image output of an ONNX fusion network in fp32, and the hash of its file."""

    def __init__(self, onnx: bytes) -> None:
        from fusepipe.engines.backends.openvino.network import GraphRunner

        self.fingerprint = hashlib.sha256(onnx).hexdigest()[:16]
        self.fuse: Callable[[Luma8, Luma8], Luma8] = GraphRunner(onnx).fuse


def split_files(data: Path, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], PairFiles]:
    """The files of (dataset, stem) pairs below ``data``; raises :class:`SourceError` where one is missing."""
    require_folder(data, "DATASET/ir and DATASET/vis in it")
    return {
        (dataset, stem): (find_image(data / dataset / "ir", stem), find_image(data / dataset / "vis", stem))
        for dataset, stem in pairs
    }


def distillation_pairs(
    files: Mapping[tuple[str, str], PairFiles], forms: Sequence[str], teacher: Teacher, images: DecodedImages
) -> Iterator[DistillationPair]:
    """Each pair in each of the forms, fused by the teacher where no run has kept that yet.

    Raises :class:`SourceError` for unreadable images and for different sizes.
    """
    for (dataset, stem), pair in files.items():
        for form in forms:
            name = f"{dataset}/{stem}"
            drawn_by = name if form in _DRAWN else ""
            key = "\0".join((*map(images.key, pair), teacher.fingerprint, form, drawn_by, str(VERSION)))

            def make(name: str = name, pair: PairFiles = pair, form: str = form) -> NDArray[np.uint8]:
                infrared, visible = changed(*read_pair(images, pair), form, name)
                return np.stack((infrared, visible, teacher.fuse(infrared, visible)))

            yield DistillationPair(dataset, stem, form, images.arrays.get(key, make))


def changed(infrared: Luma8, visible: Luma8, form: str, name: str) -> tuple[Luma8, Luma8]:
    """A pair in a form of :data:`FORMS`; of the two that change it, every second pair is at half size."""
    if form in _DRAWN:
        infrared, visible = variant(infrared, visible, name) if form == "variant" else (flat(infrared, name), visible)
        if hashlib.sha256(name.encode()).digest()[0] % 2:
            return half(infrared), half(visible)
    return (half(infrared), half(visible)) if form == "half" else (infrared, visible)
