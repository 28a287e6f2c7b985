"""Batches of augmented crops, made in worker processes; all randomness comes from (seed, number of the crop).

So a run resumes exactly, gives the same with any number of workers, and several processes together see the crops
that one process alone would see.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fusepipe.core.errors import EngineError, FusepipeError, SourceError
from fusepipe.train.data.camera_effects import CameraEffects, change_pair, change_photograph, cut
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import PairFiles
from fusepipe.train.losses.fusion import MIN_SIDE_PX

Batch = tuple[Tensor, ...]
"""Of photographs (image,); of pairs (infrared, visible, infrared target, visible target); N x 1 x C x C each."""

_WAIT_S = 300.0  # for one batch: a slow disk with large files; a dead worker is noticed immediately
_PREFETCHED = 4


class PhotographCrops(Dataset[list[NDArray[np.float32]]]):
    """Crop ``number`` of a run on photographs: 1 x C x C, as a list of one."""

    def __init__(
        self, files: Sequence[Path], images: DecodedImages, crop_px: int, camera: CameraEffects, seed: int
    ) -> None:
        self._files, self._images, self._crop_px = list(files), images, crop_px
        self._camera, self._seed = camera, seed

    def __getitem__(self, number: int) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng((self._seed, number))
        image = self._images[self._files[int(rng.integers(len(self._files)))]]
        crop = cut(image, self._crop_px, (rng.random(), rng.random()))
        return [change_photograph(crop, self._camera, rng)[None]]


class PairCrops(Dataset[list[NDArray[np.float32]]]):
    """Crop ``number`` of a run on pairs: what the network sees and what the loss takes, each 1 x C x C."""

    def __init__(
        self, files: Sequence[PairFiles], images: DecodedImages, crop_px: int, camera: CameraEffects, seed: int
    ) -> None:
        self._files, self._images, self._crop_px = list(files), images, crop_px
        self._camera, self._seed = camera, seed

    def __getitem__(self, number: int) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng((self._seed, number))
        files = self._files[int(rng.integers(len(self._files)))]
        infrared, visible = read_pair(self._images, files)
        at = rng.random(), rng.random()
        pair = change_pair(cut(infrared, self._crop_px, at), cut(visible, self._crop_px, at), self._camera, rng)
        return [image[None] for image in (pair.infrared, pair.visible, pair.infrared_target, pair.visible_target)]


def read_pair(images: DecodedImages, files: PairFiles) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Infrared and visible luma of a pair; raises :class:`SourceError` where their sizes differ."""
    infrared, visible = images[files[0]], images[files[1]]
    if infrared.shape != visible.shape:
        raise SourceError(f"{files[0]} and {files[1]}: sizes differ ({infrared.shape}, {visible.shape}): register them")
    return infrared, visible


class _StepSampler(Sampler[list[int]]):
    """The numbers of the crops of each step from ``first`` on, those that process ``rank`` takes."""

    def __init__(self, first: int, steps: int, batch: int, rank: int, world: int) -> None:
        self._range, self._batch = range(first, steps), batch
        self._own = range(rank * batch // world, (rank + 1) * batch // world)

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._range:
            yield [step * self._batch + index for index in self._own]


def _start_worker(_: int) -> None:
    """Ignores Ctrl-C, which the terminal sends to all processes: the run ends its workers between two steps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


@contextmanager
def crop_batches(
    crops: Dataset[Any], first: int, steps: int, batch: int, *, workers: int, rank: int = 0, world: int = 1
) -> Iterator[Iterator[Batch]]:
    """The batches of the steps ``first`` to ``steps`` - 1; the workers end with the context.

    Raises :class:`EngineError` when a worker dies; errors of the data are raised as in one process.
    """
    loader: DataLoader[Any] = DataLoader(
        crops,
        batch_sampler=_StepSampler(first, steps, batch, rank, world),
        num_workers=workers,
        worker_init_fn=_start_worker,
        timeout=_WAIT_S if workers else 0,
        prefetch_factor=_PREFETCHED if workers else None,
        # not fork: this process has threads of torch, OpenCV and TensorBoard, whose locks a fork would copy
        multiprocessing_context="forkserver" if workers else None,
    )

    def fetched() -> Generator[Batch, None, None]:
        iterator = iter(loader)
        while True:
            try:
                made = next(iterator)
            except StopIteration:
                return
            except FusepipeError as error:
                # a worker's error comes with its traceback, whose last line is the message
                text = str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.")
                raise type(error)(text.removeprefix(f"{type(error).__name__}: ")) from error
            except RuntimeError as error:
                raise EngineError(f"a worker process that reads images failed: {str(error).splitlines()[0]}") from error
            yield tuple(made)

    made = fetched()
    try:
        yield made
    finally:
        made.close()  # ends the workers: nothing else holds the loader's iterator


def require_validation_size(path: Path, image: NDArray[np.uint8]) -> None:
    """Raises :class:`SourceError` for an image that is too small for the losses, before the first step."""
    height, width = image.shape
    if min(height, width) < MIN_SIDE_PX:
        raise SourceError(f"{path}: {width}x{height} is too small for validation: remove it")


def as_input(image: NDArray[np.uint8]) -> Tensor:
    """HxW uint8 as 1 x 1 x H x W float32 in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32) / np.float32(255))[None, None]
