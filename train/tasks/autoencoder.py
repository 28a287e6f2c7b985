"""Stage 1 of ``mfe``: extractor and reconstruction as an auto-encoder of photographs (Eq. 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.configs.mfe import Stage1Config
from fusepipe.train.data.crops import Batch, PhotographCrops, as_input, crop_batches, require_validation_size
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import Split
from fusepipe.train.losses.fusion import mean_ssim
from fusepipe.train.networks.discriminator import Discriminator
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.tasks.base import Loss, StepRandom, mean_loss
from fusepipe.train.tasks.previews import ROWS, centre, grid


class AutoEncoderTask:
    """Photographs are reconstructed; the generator is an ``AutoEncoder``.

    L_pixel is the mean absolute error: squared errors of images in [0, 1] vanish beside 1 - SSIM, and with them a
    shift of all tones, to which SSIM is nearly blind.
    """

    def __init__(self, config: Stage1Config, network: MfeNet, files: Split[Path], images: DecodedImages) -> None:
        self._config, self._images, self._validation = config, images, files.validation
        for path in files.validation:
            require_validation_size(path, images[path])
        self.generator = network.autoencoder
        self.critic = Discriminator(config.crop_px) if config.adversarial else None
        self._crops = PhotographCrops(files.train, images, config.crop_px, config.camera, config.seed)

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        batch, workers = self._config.batch, self._config.workers
        return crop_batches(self._crops, first, steps, batch, workers=workers, rank=rank, world=world)

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        keep = (random.uniform(3) >= self._config.skip_dropout).to(batch[0])
        made: Tensor = generator(batch[0], keep)
        return made

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss:
        loss = self._reconstruction(made, batch[0])
        if critic is None:
            return loss
        score = critic(made)
        adversarial = F.mse_loss(score, torch.ones_like(score))
        total = loss.total + self._config.adversarial * adversarial
        return Loss(total, {**loss.terms, "adversarial": adversarial})

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch, random: StepRandom) -> Loss:
        # one call: DistributedDataParallel allows one forward pass a step
        real, false = critic(torch.cat((batch[0], made))).chunk(2)
        terms = {"real": F.mse_loss(real, torch.ones_like(real)), "false": F.mse_loss(false, torch.zeros_like(false))}
        return Loss((terms["real"] + terms["false"]) / 2, terms)

    def _reconstruction(self, made: Tensor, image: Tensor) -> Loss:
        terms = {"pixel": F.l1_loss(made, image), "ssim": 1 - mean_ssim(made, image)}
        return Loss(self._config.pixel * terms["pixel"] + self._config.ssim * terms["ssim"], terms)

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        images = (as_input(self._images[path]).to(device) for path in self._validation)
        return mean_loss(self._reconstruction(generator(image).clamp(0, 1), image) for image in images)

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor:
        rows = []
        for path in self._validation[:ROWS]:
            image = centre(as_input(self._images[path]).to(device))
            rows.append((image, generator(image).clamp(0, 1)))
        return grid(rows)
