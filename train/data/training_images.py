"""Image files of a training; TNO, the test set, is refused here.

Any path that leads through a folder named ``tno`` is refused, as given or through a link.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Luma8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


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


def find_image(folder: Path, stem: str) -> Path:
    """The image of a stem, whatever its suffix; raises :class:`SourceError` when there is none."""
    for suffix in IMAGE_SUFFIXES:
        path = folder / (stem + suffix)
        if path.is_file():
            return path
    known = ", ".join(IMAGE_SUFFIXES)
    raise SourceError(f"{folder}: no image {stem!r} ({known}); --data needs DATASET/ir and DATASET/vis")


def read_training_luma(path: Path) -> Luma8:
    """An image file as HxW uint8 luma (BT.601 full range for colour files; of JPEG the stored one).

    16-bit images are accepted and scaled: the upper 8 bits are taken. What is evaluated must not be scaled like that,
    so :func:`fusepipe.evaluation.image_sets.read_luma` rejects them. Raises :class:`SourceError` for a file that cannot
    be decoded and :class:`UsageError` inside TNO.
    """
    refuse_test_data(path)
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SourceError(f"{path}: not an image that can be decoded")
    return np.asarray(image, dtype=np.uint8)


def reduced(image: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """The image (HxW or HxWxC) halved until no side is longer than ``max_side_px``."""
    while max(image.shape[:2]) > max_side_px and min(image.shape[:2]) > 1:
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    return image
