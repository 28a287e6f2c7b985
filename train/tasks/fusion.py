"""Stage 2 of ``mfe``: the unsupervised fusion loss on registered pairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn

from fusepipe.train.configs.mfe import FusionStageConfig
from fusepipe.train.data.crops import Batch, PairCrops, as_input, crop_batches, read_pair, require_validation_size
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import PairFiles, Split
from fusepipe.train.losses.fusion import fusion_loss
from fusepipe.train.losses.temporal_consistency import SecondView, temporal_consistency
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.tasks.base import GeneratorOnly, Loss, StepRandom, mean_loss
from fusepipe.train.tasks.previews import ROWS, centre, grid

_SEEN_TWICE = slice(None, None, 4)


class FusionTask(GeneratorOnly):
    """The attention alone (``attention_only``), or all of the network.

    With ``temporal_consistency`` every fourth pair passes the network a second time, in the same call; where a
    process's part of the batch is not divisible by four, that is one more than a quarter. Validation leaves the second
    augmented view out.
    """

    def __init__(
        self,
        config: FusionStageConfig,
        network: MfeNet,
        files: Split[PairFiles],
        images: DecodedImages,
        *,
        attention_only: bool,
    ) -> None:
        self._config, self._weights = config, config.losses.weights()
        self._temporal_consistency = config.temporal_consistency
        self._images, self._validation = images, files.validation
        for pair in files.validation:
            require_validation_size(pair[1], read_pair(images, pair)[1])
        self.generator = network
        network.extractor.requires_grad_(not attention_only)
        network.reconstruction.requires_grad_(not attention_only)
        self._crops = PairCrops(files.train, images, config.crop_px, config.camera, config.seed)

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        batch, workers = self._config.batch, self._config.workers
        return crop_batches(self._crops, first, steps, batch, workers=workers, rank=rank, world=world)

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        infrared, visible = batch[:2]
        if view := self._view(batch, random):
            again = view.seen(infrared[_SEEN_TWICE], visible[_SEEN_TWICE])
            infrared, visible = torch.cat((infrared, again[0])), torch.cat((visible, again[1]))
        fused: Tensor = generator(infrared, visible)
        return fused

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss:
        fused = made[: len(batch[0])]
        loss = self._fusion(fused, batch[2], batch[3])
        view = self._view(batch, random)
        if view is None:
            return loss
        infrared, visible, first = (part[_SEEN_TWICE] for part in (batch[0], batch[1], fused))
        found = temporal_consistency(infrared, visible, first, made[len(fused) :], view)
        weights = self._temporal_consistency
        total = loss.total + weights.flicker * found[0] + weights.luminance * found[1]
        return Loss(total, {**loss.terms, "flicker": found[0], "luminance": found[1]})

    def _view(self, batch: Batch, random: StepRandom) -> SecondView | None:
        """The second augmented view, if weighted; each image has noise of its own, whichever process takes it."""
        if not (self._temporal_consistency.flicker or self._temporal_consistency.luminance):
            return None
        seeds = (random.uniform(1)[_SEEN_TWICE, 0].double() * 2**31).long().tolist()
        return SecondView.joined([SecondView.at(batch[0][:1], seed) for seed in seeds])

    def _fusion(self, made: Tensor, infrared: Tensor, visible: Tensor) -> Loss:
        return Loss(*fusion_loss(made, infrared, visible, self._weights))

    def _pairs(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        for files in self._validation:
            infrared, visible = read_pair(self._images, files)
            yield as_input(infrared).to(device), as_input(visible).to(device)

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        return mean_loss(self._fusion(generator(*pair), *pair) for pair in self._pairs(device))

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor:
        rows = []
        for _, pair in zip(range(ROWS), self._pairs(device), strict=False):
            infrared, visible = (centre(image) for image in pair)
            maps = cast(MfeNet, generator).weights(infrared, visible).mean(dim=1, keepdim=True)
            rows.append((infrared, visible, generator(infrared, visible), maps))
        return grid(rows)
