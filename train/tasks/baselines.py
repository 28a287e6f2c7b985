"""The learned baselines: DenseFuse, FusionGAN and DDcGAN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from fusepipe.train.configs.baselines import BaselineConfig, DdcGanConfig, DenseFuseConfig, FusionGanConfig
from fusepipe.train.data.crops import Batch
from fusepipe.train.data.pairs import Pair
from fusepipe.train.data.sampler import CropSampler
from fusepipe.train.losses import ddcgan as ddcgan_losses
from fusepipe.train.losses import densefuse as densefuse_losses
from fusepipe.train.losses import fusiongan as fusiongan_losses
from fusepipe.train.networks import ddcgan, fusiongan
from fusepipe.train.networks.borders import trim
from fusepipe.train.networks.densefuse import DenseFuseNet
from fusepipe.train.networks.discriminator import Discriminator
from fusepipe.train.tasks.base import Loss, StepRandom, mean_loss

_VALIDATION_BATCHES = 4

Terms = dict[str, Tensor]
"""Scalars by name, weighted: their sum is the loss."""
Config = TypeVar("Config", bound=BaselineConfig)


class BaselineTask(ABC, Generic[Config]):
    """Crops of pairs held in memory; validation takes the same crops of the validation pairs each time."""

    generator: nn.Module
    critic: nn.ModuleDict | None = None

    def __init__(self, config: Config, train: Sequence[Pair], validation: Sequence[Pair]) -> None:
        self._config = config
        self._sampler = CropSampler(train, config.batch, config.crop_px, config.seed)
        self._validation = CropSampler(validation, config.batch, config.crop_px, config.seed)

    @abstractmethod
    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms: ...

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        raise AssertionError("the loop computes no critic's loss for a task without critics")

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        return self._sampler.batches(first, steps)

    @abstractmethod
    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor: ...

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch, random: StepRandom) -> Loss:
        return _loss(self.critic_terms(made, batch[0], batch[1], random.generator))

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss:
        return _loss(self.generator_terms(made, batch[0], batch[1], random.generator))

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        losses = []
        for number in range(_VALIDATION_BATCHES):
            batch = tuple(part.to(device) for part in self._validation.batch(number))
            random = StepRandom(0, number, len(batch[0]), 0, 1, device)
            losses.append(self.generator_loss(self.generate(generator, batch, random), self.critic, batch, random))
        return mean_loss(losses)

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor | None:
        return None


class DenseFuseTask(BaselineTask[DenseFuseConfig]):
    """An auto-encoder; a photograph is its own pair, and ``visible`` is not used."""

    def __init__(self, config: DenseFuseConfig, train: Sequence[Pair], validation: Sequence[Pair]) -> None:
        super().__init__(config, train, validation)
        self.generator = DenseFuseNet()

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        network = cast(DenseFuseNet, generator)
        return network.decode(network.encode(batch[0]))

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        terms = densefuse_losses.reconstruction_losses(made, infrared)
        return {"pixel": self._config.pixel * terms["pixel"], "ssim": self._config.ssim * terms["ssim"]}


class FusionGanTask(BaselineTask[FusionGanConfig]):
    """One adversary, of visible patches."""

    critic: nn.ModuleDict

    def __init__(self, config: FusionGanConfig, train: Sequence[Pair], validation: Sequence[Pair]) -> None:
        super().__init__(config, train, validation)
        self.generator = fusiongan.FusionGanNet()
        patch_px = config.crop_px - 2 * fusiongan.BORDER
        self.critic = nn.ModuleDict({"visible": Discriminator(patch_px, batch_norm=True, centred=True)})

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        return cast(fusiongan.FusionGanNet, generator).inner(batch[0], batch[1])

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        c, border = self._config, fusiongan.BORDER
        content = fusiongan_losses.content_losses(made, trim(infrared, border), trim(visible, border))
        return {
            "adversarial": c.adversarial * fusiongan_losses.adversarial_loss(self.critic["visible"](made), noise),
            "intensity": c.content * content["intensity"],
            "gradient": c.content * c.gradient * content["gradient"],
        }

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        critic = self.critic["visible"]
        real = critic(trim(visible, fusiongan.BORDER))
        return {"visible": fusiongan_losses.critic_loss(real, critic(made), noise)}


class DdcGanTask(BaselineTask[DdcGanConfig]):
    """Two adversaries, one for each source."""

    critic: nn.ModuleDict

    def __init__(self, config: DdcGanConfig, train: Sequence[Pair], validation: Sequence[Pair]) -> None:
        super().__init__(config, train, validation)
        self.generator = ddcgan.DdcGanNet()

        def critic() -> Discriminator:
            return Discriminator(config.crop_px, ddcgan.CRITIC_WIDTHS, batch_norm=True, centred=True)

        self.critic = nn.ModuleDict({band: critic() for band in ("infrared", "visible")})

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        return cast(ddcgan.DdcGanNet, generator).inner(batch[0], batch[1])

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        c = self._config
        content = ddcgan_losses.content_losses(made, infrared, visible)
        terms = {
            f"adversarial_{band}": c.adversarial * ddcgan_losses.adversarial_loss(critic(made))
            for band, critic in self.critic.items()
        }
        terms["intensity"] = c.content * content["intensity"]
        terms["gradient"] = c.content * c.gradient * content["gradient"]
        return terms

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        sources = {"infrared": infrared, "visible": visible}
        return {
            band: ddcgan_losses.critic_loss(critic(sources[band]), critic(made)) for band, critic in self.critic.items()
        }


AnyBaselineTask = DenseFuseTask | FusionGanTask | DdcGanTask


def baseline_task(config: BaselineConfig, train: Sequence[Pair], validation: Sequence[Pair]) -> AnyBaselineTask:
    """The task of a configuration, by its type."""
    if isinstance(config, DenseFuseConfig):
        return DenseFuseTask(config, train, validation)
    if isinstance(config, FusionGanConfig):
        return FusionGanTask(config, train, validation)
    if isinstance(config, DdcGanConfig):
        return DdcGanTask(config, train, validation)
    raise TypeError(f"no baseline is trained by a {type(config).__name__}")


def _loss(terms: Terms) -> Loss:
    return Loss(torch.stack(list(terms.values())).sum(), terms)
