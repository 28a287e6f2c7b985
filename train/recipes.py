"""The learned baselines as the shared loop trains them: networks, adversaries and the losses of one step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from fusepipe.train.baseline_config import BaselineConfig, DdcGanConfig, DenseFuseConfig, FusionGanConfig
from fusepipe.train.networks import ddcgan, densefuse, fusiongan
from fusepipe.train.networks.borders import trim

Terms = dict[str, Tensor]
"""Scalars by name, weighted: their sum is the loss."""


class Recipe(Protocol):
    """What a baseline brings to the loop.

    ``infrared`` and ``visible`` are N x 1 x P x P patches in [0, 1]; ``made`` is what ``make`` gave of
    them. ``noise`` is the randomness of this step.
    """

    @property
    def generator(self) -> nn.Module:
        """The network that is shipped."""

    @property
    def critics(self) -> nn.ModuleDict:
        """Its adversaries by name; empty for an auto-encoder."""

    def make(self, infrared: Tensor, visible: Tensor) -> Tensor: ...
    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms: ...
    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms: ...


class DenseFuseRecipe:
    """The auto-encoder; a photograph is its own pair, so that ``visible`` is not looked at."""

    def __init__(self, config: DenseFuseConfig) -> None:
        self._config = config
        self.generator = densefuse.DenseFuseNet()
        self.critics = nn.ModuleDict()

    def make(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.generator.decode(self.generator.encode(infrared))

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        terms = densefuse.reconstruction_losses(made, infrared)
        return {"pixel": self._config.pixel * terms["pixel"], "ssim": self._config.ssim * terms["ssim"]}

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        return {}


class FusionGanRecipe:
    """One adversary, which knows visible patches."""

    def __init__(self, config: FusionGanConfig) -> None:
        self._config = config
        self.generator = fusiongan.FusionGanNet()
        self.critics = nn.ModuleDict({"visible": fusiongan.Critic(config.crop_px - 2 * fusiongan.BORDER)})

    def make(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.generator.inner(infrared, visible)

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        c, border = self._config, fusiongan.BORDER
        content = fusiongan.content_losses(made, trim(infrared, border), trim(visible, border))
        return {
            "adversarial": c.adversarial * fusiongan.deceiving_loss(self.critics["visible"](made), noise),
            "intensity": c.content * content["intensity"],
            "gradient": c.content * c.gradient * content["gradient"],
        }

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        critic = self.critics["visible"]
        return {"visible": fusiongan.critic_loss(critic(trim(visible, fusiongan.BORDER)), critic(made), noise)}


class DdcGanRecipe:
    """Two adversaries, one for each source."""

    def __init__(self, config: DdcGanConfig) -> None:
        self._config = config
        self.generator = ddcgan.DdcGanNet()
        self.critics = nn.ModuleDict(
            {band: fusiongan.Critic(config.crop_px, ddcgan.CRITIC_WIDTHS) for band in ("infrared", "visible")}
        )

    def make(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.generator.inner(infrared, visible)

    def generator_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        c = self._config
        content = ddcgan.content_losses(made, infrared, visible)
        terms = {
            f"adversarial_{band}": c.adversarial * ddcgan.deceiving_loss(critic(made))
            for band, critic in self.critics.items()
        }
        terms["intensity"] = c.content * content["intensity"]
        terms["gradient"] = c.content * c.gradient * content["gradient"]
        return terms

    def critic_terms(self, made: Tensor, infrared: Tensor, visible: Tensor, noise: torch.Generator) -> Terms:
        sources = {"infrared": infrared, "visible": visible}
        return {band: ddcgan.critic_loss(critic(sources[band]), critic(made)) for band, critic in self.critics.items()}


def make_recipe(config: BaselineConfig) -> Recipe:
    """The recipe of a configuration, by its type."""
    if isinstance(config, DenseFuseConfig):
        return DenseFuseRecipe(config)
    if isinstance(config, FusionGanConfig):
        return FusionGanRecipe(config)
    if isinstance(config, DdcGanConfig):
        return DdcGanRecipe(config)
    raise TypeError(f"no baseline is trained by a {type(config).__name__}")
