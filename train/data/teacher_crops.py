"""Random crops of distillation pairs, or whole images, drawn by data set and form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.train.data.camera_effects import turned
from fusepipe.train.data.sampler import StepBatches
from fusepipe.train.data.sensors import Sensors, seen
from fusepipe.train.data.teacher_pairs import DistillationPair

MIN_WHOLE_PX = 64
"""Shorter side of the smallest images that are taken whole."""
_BANDS = 2


class DistillationCrops(StepBatches):
    """Random crops of the pairs, five planes each.

    Infrared and visible as the network sees them, with the sensors' artefacts (about [0, 1]), then both as the loss
    takes them, then the teacher's image, in [0, 1].

    With a batch of one, smaller images are taken whole, so that ``crop_px`` limits each side; metrics of whole images
    (correlations, mutual information) then are what the loss computes.

    ``sets`` and ``forms`` give how often a crop is of a data set and of a form (relative). Raises :class:`UsageError`
    where no pair is large enough.
    """

    def __init__(
        self,
        pairs: Sequence[DistillationPair],
        sets: Mapping[str, float],
        forms: Mapping[str, float],
        *,
        batch: int,
        crop_px: int,
        sensors: Sensors,
        seed: int,
    ) -> None:
        super().__init__(batch, seed)
        least = MIN_WHOLE_PX if batch == 1 else crop_px
        large = (pair for pair in pairs if pair.side_px >= least)
        self._pairs = [pair for pair in large if sets.get(pair.dataset) and forms.get(pair.form)]
        if not self._pairs:
            raise UsageError(f"crops of {crop_px} px need pairs of {least} px or more; none is as large")
        count = Counter((pair.dataset, pair.form) for pair in self._pairs)
        shares = [sets[p.dataset] * forms[p.form] / count[p.dataset, p.form] for p in self._pairs]
        self._shares = np.array(shares) / sum(shares)
        self._crop_px, self._sensors = crop_px, sensors

    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """5 x H x W, see :class:`DistillationCrops`."""
        images = self._pairs[int(rng.choice(len(self._pairs), p=self._shares))].images
        rows, columns = (_part(most, self._crop_px, rng) for most in images.shape[1:])
        targets = images[:, rows, columns]
        if rng.random() < self._sensors.same:
            targets = targets[[int(rng.integers(_BANDS))] * 3]
        as_seen = seen(targets[:_BANDS], self._sensors, rng)
        crop = np.concatenate((as_seen, targets.astype(np.float32) / np.float32(255)))
        return turned(crop, int(rng.integers(8)))


def _part(most: int, crop_px: int, rng: np.random.Generator) -> slice:
    """A random part of this length of a side, or all of a shorter one."""
    length = min(crop_px, most)
    start = int(rng.integers(most - length + 1))
    return slice(start, start + length)
