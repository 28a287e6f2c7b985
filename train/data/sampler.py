"""Random crops of pairs in memory, a batch a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.train.data.camera_effects import turned
from fusepipe.train.data.crops import Batch
from fusepipe.train.data.pairs import Pair


class StepBatches(ABC):
    """Batches of crops; all randomness comes from (seed, step), so a run resumes exactly."""

    def __init__(self, batch: int, seed: int) -> None:
        self._batch, self._seed = batch, seed

    def batch(self, step: int) -> Batch:
        """The crops of a step, one tensor of N x 1 x C x C float32 for each plane of a crop."""
        rng = np.random.default_rng((self._seed, step))
        crops = np.stack([self._crop(rng) for _ in range(self._batch)], axis=1)
        return tuple(torch.from_numpy(np.ascontiguousarray(crops))[:, :, None])

    def batches(self, first: int, steps: int) -> AbstractContextManager[Iterator[Batch]]:
        """The batches of the steps ``first`` to ``steps`` - 1."""
        return nullcontext(self.batch(step) for step in range(first, steps))

    @abstractmethod
    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """One crop, planes x C x C."""


class CropSampler(StepBatches):
    """Random crops of pairs, infrared and visible in [0, 1], flipped and turned."""

    def __init__(self, pairs: Sequence[Pair], batch: int, crop_px: int, seed: int) -> None:
        small = next((p for p in pairs if min(p.visible.shape) < crop_px), None)
        if not pairs or small:
            raise UsageError(
                f"crops of {crop_px} px need pairs at least that large; {small.name if small else 'none given'}"
            )
        super().__init__(batch, seed)
        self._pairs, self._crop_px = pairs, crop_px

    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A square of a random pair at a random place: 2 x C x C."""
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        side = self._crop_px
        y, x = (int(rng.integers(most - side + 1)) for most in pair.visible.shape)
        bands = np.stack([band[y : y + side, x : x + side] for band in (pair.infrared, pair.visible)])
        return turned(bands.astype(np.float32) / np.float32(255), int(rng.integers(8)))
