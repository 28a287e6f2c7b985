"""Random augmented crops of pairs in memory, for the students and the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.train.data.augmentation import Augmentation, augmented
from fusepipe.train.data.crops import Batch
from fusepipe.train.data.pairs import Pair


def _resized(square: Luma8, side_px: int) -> Luma8:
    """A square image at another size: area averaging to shrink, linear interpolation to enlarge."""
    if len(square) == side_px:
        return square
    method = cv2.INTER_AREA if side_px < len(square) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=method), np.uint8)


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

    def batch(self, step: int) -> Batch:
        """The crops of a step, N x 1 x C x C float32 in [0, 1].

        Infrared and visible as the network sees them, then both as the loss takes them.
        """
        rng = np.random.default_rng((self._seed, step))
        crops = np.stack([augmented(self._cut(rng), self._augmentation, rng) for _ in range(self._batch)], axis=1)
        return tuple(torch.from_numpy(crops)[:, :, None])

    def batches(self, first: int, steps: int) -> AbstractContextManager[Iterator[Batch]]:
        """The batches of the steps ``first`` to ``steps`` - 1."""
        return nullcontext(self.batch(step) for step in range(first, steps))

    def _cut(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A square of a random pair at a random place, scaled by the zoom: 2 x C x C in [0, 1]."""
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        height, width = pair.visible.shape
        side, zoom = self._crop_px, self._augmentation.zoom
        if zoom:
            side = min(round(side * np.exp(zoom * rng.uniform(-1, 1))), height, width)
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        area = np.s_[y : y + side, x : x + side]
        bands = np.stack([_resized(band[area], self._crop_px) for band in (pair.infrared, pair.visible)])
        return bands.astype(np.float32) / np.float32(255)
