"""The stages of ``mfe`` as the loop trains them: networks, adversary, losses of one step, validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.train.config import LEAST_PX
from fusepipe.train.data.crops import Batch, PairCrops, PhotographCrops, as_input, read_pair
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.folders import PairFiles, Split
from fusepipe.train.losses.fusion import fusion_loss, ssim
from fusepipe.train.losses.steadiness import SecondLook, steadiness
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.run_config import FusionConfig, Stage1Config


@dataclass(frozen=True, slots=True)
class Loss:
    """What is descended, and its unweighted terms by name, to be looked at; scalars."""

    total: Tensor
    terms: dict[str, Tensor]


Uniform = Callable[[int], Tensor]
"""``uniform(columns)``: numbers in [0, 1) of this step, one row for each image of this process's batch."""

_GRID_ROWS, _GRID_PX = 4, 192
_SEEN_TWICE = slice(None, None, 4)


class Stage(Protocol):
    """What a stage brings to the loop."""

    @property
    def generator(self) -> nn.Module:
        """The network that is kept; what of it requires no gradient stays as it is."""

    @property
    def critic(self) -> nn.Module | None:
        """Its adversary, or none."""

    @property
    def critic_learning_rate(self) -> float: ...
    @property
    def crops(self) -> Dataset[list[NDArray[np.float32]]]: ...

    def make(self, generator: nn.Module, batch: Batch, uniform: Uniform) -> Tensor:
        """The images of a step; ``generator`` is the network, maybe wrapped to share its gradients."""

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, uniform: Uniform) -> Loss:
        """``uniform`` draws what it drew for ``make``."""

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch) -> Loss: ...

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        """The mean on whole validation images; its total chooses the weights that are kept."""

    def pictures(self, generator: nn.Module, device: torch.device) -> Tensor:
        """Examples side by side, 3 x H x W in [0, 1], for TensorBoard."""


class Discriminator(nn.Module):
    """3x3 stride-2 convolutions 32-64-128-256 with LeakyReLU 0.2, then linear: one score a crop."""

    def __init__(self, crop_px: int, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, side = 1, crop_px
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            inputs, side = width, -(-side // 2)
        self.features = nn.Sequential(*layers)
        self.score = nn.Linear(inputs * side * side, 1)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 scores of N x 1 x C x C crops in [0, 1], C as built."""
        score: Tensor = self.score(self.features(image).flatten(1))
        return score


class AutoEncoderStage:
    """Stage 1: photographs come back as they are (Eq. 5); the generator is an ``AutoEncoder``.

    L_pixel is the mean absolute error: squared errors of images in [0, 1] vanish beside 1 - SSIM, and a
    shift of all tones with them, to which SSIM is nearly blind.
    """

    def __init__(self, config: Stage1Config, network: MfeNet, files: Split[Path], images: DecodedImages) -> None:
        self._config, self._images, self._validation = config, images, files.validation
        for path in files.validation:
            _require_judgeable(path, images[path])
        self.generator = network.autoencoder
        self.critic = Discriminator(config.crop_px) if config.adversarial else None
        self.critic_learning_rate = config.critic_learning_rate
        self.crops = PhotographCrops(files.train, images, config.crop_px, config.camera, config.seed)

    def make(self, generator: nn.Module, batch: Batch, uniform: Uniform) -> Tensor:
        keep = (uniform(3) >= self._config.skip_dropout).to(batch[0])
        made: Tensor = generator(batch[0], keep)
        return made

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, uniform: Uniform) -> Loss:
        loss = self._reconstruction(made, batch[0])
        if critic is None:
            return loss
        score = critic(made)
        adversarial = F.mse_loss(score, torch.ones_like(score))
        total = loss.total + self._config.adversarial * adversarial
        return Loss(total, {**loss.terms, "adversarial": adversarial})

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch) -> Loss:
        # one call: a network that shares its gradients may be called once a step
        real, false = critic(torch.cat((batch[0], made))).chunk(2)
        terms = {"real": F.mse_loss(real, torch.ones_like(real)), "false": F.mse_loss(false, torch.zeros_like(false))}
        return Loss((terms["real"] + terms["false"]) / 2, terms)

    def _reconstruction(self, made: Tensor, image: Tensor) -> Loss:
        terms = {"pixel": F.l1_loss(made, image), "ssim": 1 - ssim(made, image)}
        return Loss(self._config.pixel * terms["pixel"] + self._config.ssim * terms["ssim"], terms)

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        images = (as_input(self._images[path]).to(device) for path in self._validation)
        return _mean(self._reconstruction(generator(image).clamp(0, 1), image) for image in images)

    def pictures(self, generator: nn.Module, device: torch.device) -> Tensor:
        rows = []
        for path in self._validation[:_GRID_ROWS]:
            image = _middle(as_input(self._images[path]).to(device))
            rows.append((image, generator(image).clamp(0, 1)))
        return _grid(rows)


class FusionStage:
    """Stage 2: the fusion loss on pairs, for the attention alone or all of the network.

    With ``steadiness`` every fourth pair is seen a second time, in the same pass: of a process whose part of the batch
    is not divisible by four one more than a quarter. Validation, which chooses the weights, leaves it out.
    """

    critic: nn.Module | None = None
    critic_learning_rate = 0.0

    def __init__(
        self,
        config: FusionConfig,
        network: MfeNet,
        files: Split[PairFiles],
        images: DecodedImages,
        *,
        attention_only: bool,
    ) -> None:
        self._weights, self._steadiness = config.losses.weights(), config.steadiness
        self._images, self._validation = images, files.validation
        for pair in files.validation:
            _require_judgeable(pair[1], read_pair(images, pair)[1])
        self.generator = network
        network.extractor.requires_grad_(not attention_only)
        network.reconstruction.requires_grad_(not attention_only)
        self.crops = PairCrops(files.train, images, config.crop_px, config.camera, config.seed)

    def make(self, generator: nn.Module, batch: Batch, uniform: Uniform) -> Tensor:
        infrared, visible = batch[:2]
        if look := self._look(batch, uniform):
            again = look.seen(infrared[_SEEN_TWICE], visible[_SEEN_TWICE])
            infrared, visible = torch.cat((infrared, again[0])), torch.cat((visible, again[1]))
        fused: Tensor = generator(infrared, visible)
        return fused

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, uniform: Uniform) -> Loss:
        fused = made[: len(batch[0])]
        loss = self._fusion(fused, batch[2], batch[3])
        look = self._look(batch, uniform)
        if look is None:
            return loss
        infrared, visible, first = (part[_SEEN_TWICE] for part in (batch[0], batch[1], fused))
        found = steadiness(infrared, visible, first, made[len(fused) :], look)
        total = loss.total + self._steadiness.flicker * found[0] + self._steadiness.luminance * found[1]
        return Loss(total, {**loss.terms, "flicker": found[0], "luminance": found[1]})

    def _look(self, batch: Batch, uniform: Uniform) -> SecondLook | None:
        """The second look, where one is asked for; each image's noise is its own, whichever process has it."""
        if not (self._steadiness.flicker or self._steadiness.luminance):
            return None
        seeds = (uniform(1)[_SEEN_TWICE, 0].double() * 2**31).long().tolist()
        return SecondLook.joined([SecondLook.at(batch[0][:1], seed) for seed in seeds])

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch) -> Loss:
        raise AssertionError("a stage without a critic is never asked for its loss")

    def _fusion(self, made: Tensor, infrared: Tensor, visible: Tensor) -> Loss:
        return Loss(*fusion_loss(made, infrared, visible, self._weights))

    def _pairs(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        pairs = (read_pair(self._images, files) for files in self._validation)
        return [(as_input(infrared).to(device), as_input(visible).to(device)) for infrared, visible in pairs]

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        return _mean(self._fusion(generator(*pair), *pair) for pair in self._pairs(device))

    def pictures(self, generator: nn.Module, device: torch.device) -> Tensor:
        rows = []
        for pair in self._pairs(device)[:_GRID_ROWS]:
            infrared, visible = (_middle(image) for image in pair)
            maps = cast(MfeNet, generator).weights(infrared, visible).mean(dim=1, keepdim=True)
            rows.append((infrared, visible, generator(infrared, visible), maps))
        return _grid(rows)


def _require_judgeable(path: Path, image: Luma8) -> None:
    """Raises :class:`SourceError` for what the losses do not take: before the first step, not at a validation."""
    height, width = image.shape
    if min(height, width) < LEAST_PX:
        raise SourceError(f"{path}: {width}x{height} is too small to validate on: leave it out")


def _mean(losses: Iterable[Loss]) -> Loss:
    """The mean of each number."""
    listed = list(losses)
    names = listed[0].terms
    terms = {name: torch.stack([loss.terms[name] for loss in listed]).mean() for name in names}
    return Loss(torch.stack([loss.total for loss in listed]).mean(), terms)


def _middle(image: Tensor) -> Tensor:
    """The middle of 1 x 1 x H x W, at most ``_GRID_PX`` in each direction."""
    height, width = (min(side, _GRID_PX) for side in image.shape[-2:])
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def _grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of 1 x 1 x H x W images as one 3 x H x W picture, each in a cell of ``_GRID_PX``."""
    cells = [
        torch.cat([F.pad(i[0], (0, _GRID_PX - i.shape[-1], 0, _GRID_PX - i.shape[-2])) for i in row], dim=-1)
        for row in rows
    ]
    return torch.cat(cells, dim=-2).expand(3, -1, -1).cpu()
