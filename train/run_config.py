"""What the trainings of ``mfe`` are: frozen models, read from YAML; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fusepipe.train.config import (
    Crop,
    Losses,
    Model,
    Positive,
    Rate,
    Seed,
    Side,
    Steadiness,
    Threads,
    Weight,
)
from fusepipe.train.config_file import read_config
from fusepipe.train.data.camera import Camera
from fusepipe.train.networks.mfe import MfeNet, Reading

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class RunConfig(Model):
    """What every stage has in common."""

    steps: Positive = 1000
    """Optimiser steps."""
    batch: Positive = 8
    """Crops a step, over all processes."""
    crop_px: Crop = 96
    """Height and width of a crop."""
    learning_rate: Rate = 2e-3
    """Peak of the one-cycle rate."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the moving average of the weights, which is what is validated and kept."""
    clip_norm: Weight = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What convolutions compute in: auto is bf16 (else fp16) on a GPU and fp32 on a CPU."""
    seed: Seed = 0
    """Of initialisation, crops and augmentation."""
    max_side_px: Side = 800
    """Larger images are halved until they fit."""
    validate_every: Positive = 250
    """Steps between validations and checkpoints."""
    validation_images: Positive = 24
    """Most images (or pairs) of a validation: evenly spread over those that there are."""
    patience: Count = 0
    """Validations without a better one after which a run ends early; 0 never does."""
    threads: Threads = 0
    """CPU threads; 0 is all. A run resumes to the bit with equally many."""
    workers: Count = 1
    """Processes that decode and augment; 0 does it in between."""

    def fixed(self) -> dict[str, Any]:
        """What may not change between two parts of a run; how it is computed may."""
        return self.model_dump(mode="json", exclude={"threads", "workers", "precision"})


class Network(Model):
    """The parts of the network that can be switched off, as in Table 2 of the paper, and the reading of Eq. 3."""

    dense: bool = True
    """The dense connections of the extractor (D)."""
    attention: bool = True
    """The edge-guided attention (A); without it features are fused by their mean."""
    skips: bool = True
    """The feature compensation of the reconstruction (S)."""
    reading: Reading = "sources"
    """How Eq. 3 is read; see ``fusepipe.train.networks.mfe.fuse``."""
    overshoot: Share = 1.0
    """Share kept of greys beyond both sources' (``networks.mfe.pulled_back``); 1 is the paper's."""

    def build(self) -> MfeNet:
        """A new network of these parts."""
        return MfeNet(**self.model_dump())


class Stage1Config(RunConfig):
    """Stage 1: extractor and reconstruction as an auto-encoder of photographs (Eq. 5)."""

    pixel: Weight = 1.0
    """Weight of L_pixel, the mean absolute error."""
    ssim: Weight = 1.0
    """Weight of 1 - SSIM (gamma)."""
    adversarial: Weight = 0.02
    """Weight of the least-squares adversarial term (lambda); 0 trains without a discriminator."""
    critic_learning_rate: Rate = 5e-4
    """Peak of the discriminator's rate."""
    skip_dropout: Share = 0.5
    """Share of images for which each skip is left out, so that the deep levels learn too."""
    images: Count = 0
    """Most photographs to train on: evenly spread over those that there are; 0 takes all."""
    camera: Camera = Camera(swap=0.0, same=0.0, flat=0.0)
    """Changes of a crop; what is fed is also what shall come back."""


class FusionConfig(RunConfig):
    """Stage 2 by the unsupervised fusion loss: the attention alone, or all of the network."""

    pairs: Literal["committed", "folders"] = "committed"
    """``committed``: the pairs of ``splits/registered_pairs.csv``; ``folders``: all paired folders below the data."""
    losses: Losses = Losses()
    """Weights of what the fused image shall keep of its sources."""
    steadiness: Steadiness = Steadiness()
    """Weights of what keeps a video calm; 0 leaves the second look out."""
    camera: Camera = Camera()
    """Changes of a crop."""


class MfeConfig(Model):
    """All of ``mfe``: its parts, stage 1, the attention with the rest frozen, fine-tuning of all."""

    network: Network = Network()
    stage1: Stage1Config = Stage1Config()
    attention: FusionConfig = FusionConfig()
    finetune: FusionConfig = FusionConfig()


def load_mfe_config(name: str, shipped: str = "mfe") -> MfeConfig:
    """``default`` is the configuration ``shipped`` with fusepipe; anything else is the path of a YAML file.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    return read_config(name, {"default": shipped}, MfeConfig)
