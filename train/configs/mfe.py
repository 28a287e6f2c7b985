"""Configuration of the trainings of ``mfe``, the paper's network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fusepipe.train.configs.fields import (
    ConfigSection,
    Crop,
    Losses,
    Positive,
    Rate,
    Seed,
    Side,
    TemporalConsistency,
    Threads,
    Weight,
)
from fusepipe.train.configs.reading import read_config
from fusepipe.train.data.camera_effects import CameraEffects
from fusepipe.train.networks.mfe import MfeNet, Reading

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class StageConfig(ConfigSection):
    """Settings that all stages have in common."""

    steps: Positive = 1000
    """Optimiser steps."""
    batch: Positive = 8
    """Crops per step, over all processes."""
    crop_px: Crop = 96
    """Height and width of a crop."""
    learning_rate: Rate = 2e-3
    """Peak of the one-cycle rate."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the moving average of the weights, which is validated and kept."""
    clip_norm: Weight = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the convolutions: auto is bf16 (else fp16) on a GPU and fp32 on a CPU."""
    seed: Seed = 0
    """Of initialisation, crops and augmentation."""
    max_side_px: Side = 800
    """Larger images are halved until they fit."""
    validate_every: Positive = 250
    """Steps between validations and checkpoints."""
    validation_images: Positive = 24
    """Limit of the images (or pairs) of a validation, evenly spaced over the available ones."""
    patience: Count = 0
    """Validations without improvement after which a run ends early; 0 never does."""
    threads: Threads = 0
    """CPU threads; 0 is all. A run resumes to the bit with the same number."""
    workers: Count = 1
    """Processes that decode and augment; 0 does it in the training process."""

    def fixed(self) -> dict[str, Any]:
        """The settings that must be equal when a run is resumed: all but how it is computed."""
        return self.model_dump(mode="json", exclude={"threads", "workers", "precision"})


class NetworkParts(ConfigSection):
    """The parts of the network that can be switched off (Table 2 of the paper), and the interpretation of Eq. 3."""

    dense: bool = True
    """The dense connections of the extractor (D)."""
    attention: bool = True
    """The edge-guided attention (A); without it features are fused by their mean."""
    skips: bool = True
    """The feature compensation of the reconstruction (S)."""
    reading: Reading = "sources"
    """Interpretation of Eq. 3; see ``fusepipe.train.networks.mfe.fuse``."""
    overshoot: Share = 1.0
    """Share kept of levels outside the range of both sources (``networks.mfe.pulled_back``); 1 is the paper's."""

    def build(self) -> MfeNet:
        """A new network of these parts."""
        return MfeNet(**self.model_dump())


class Stage1Config(StageConfig):
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
    """Limit of the photographs to train on, evenly spaced over the available ones; 0 takes all."""
    camera: CameraEffects = CameraEffects(swap=0.0, same=0.0, flat=0.0)
    """Augmentation of a crop, which is both input and target."""


class FusionStageConfig(StageConfig):
    """Stage 2 by the unsupervised fusion loss: the attention alone, or all of the network."""

    pairs: Literal["committed", "folders"] = "committed"
    """``committed``: the pairs of ``splits/registered_pairs.csv``; ``folders``: all paired folders below the data."""
    losses: Losses = Losses()
    """Weights of the fusion loss."""
    temporal_consistency: TemporalConsistency = TemporalConsistency()
    """Weights of the terms against flicker; 0 leaves the second augmented view out."""
    camera: CameraEffects = CameraEffects()
    """Augmentation of a crop."""


class MfeConfig(ConfigSection):
    """``mfe``: its parts, stage 1, the attention with the rest frozen, fine-tuning of the whole network."""

    network: NetworkParts = NetworkParts()
    stage1: Stage1Config = Stage1Config()
    attention: FusionStageConfig = FusionStageConfig()
    finetune: FusionStageConfig = FusionStageConfig()


def load_mfe_config(name: str, shipped: str = "mfe") -> MfeConfig:
    """``default`` is the configuration ``shipped`` with fusepipe; anything else is the path of a YAML file.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    return read_config(name, {"default": shipped}, MfeConfig)
