"""Configurations of the learned baselines' trainings."""

from __future__ import annotations

from collections.abc import Mapping

from fusepipe.train.configs.fields import ConfigSection, Crop, Positive, Rate, Seed, Side, Threads, Weight
from fusepipe.train.configs.reading import read_config


class BaselineConfig(ConfigSection):
    """Settings that all baselines have in common; the defaults suit a short training on a CPU."""

    steps: Positive = 1000
    """Optimiser steps."""
    batch: Positive = 2
    """Patches per step."""
    crop_px: Crop = 64
    """Height and width of a patch as the network sees it."""
    learning_rate: Rate = 1e-3
    """Peak of the one-cycle rate of every network."""
    seed: Seed = 0
    """Of initialisation, patches and augmentation."""
    max_side_px: Side = 800
    """Larger images are halved until they fit."""
    threads: Threads = 1
    """CPU threads; 0 is all. One is the fastest per core; a run resumes to the bit with the same number."""
    validate_every: Positive = 100
    """Steps between validations and checkpoints."""


class DenseFuseConfig(BaselineConfig):
    """Training of DenseFuse's auto-encoder on photographs."""

    pixel: Weight = 10.0
    """Weight of the mean squared error."""
    ssim: Weight = 1.0
    """Weight of 1 - SSIM."""


class FusionGanConfig(BaselineConfig):
    """Training of FusionGAN on pairs."""

    adversarial: Weight = 1.0
    """Weight of the adversarial term of the generator."""
    content: Weight = 100.0
    """Weight of the content loss (lambda of eq. 2)."""
    gradient: Weight = 5.0
    """Weight of the Laplacian term within the content loss (xi of eq. 4)."""


class DdcGanConfig(BaselineConfig):
    """Training of DDcGAN on pairs."""

    adversarial: Weight = 0.01
    """Weight of the adversarial terms. The paper's norms are sums over pixels, ours means, which are smaller."""
    content: Weight = 0.6
    """Weight of the content loss (lambda of eq. 2)."""
    gradient: Weight = 1.2
    """Weight of the gradient term within the content loss (eta of eq. 5)."""


BASELINES: Mapping[str, type[BaselineConfig]] = {
    "densefuse": DenseFuseConfig,
    "fusiongan": FusionGanConfig,
    "ddcgan": DdcGanConfig,
}
"""Baseline to the type of its configuration; the shipped one is ``NAME.yaml``."""


def load_baseline_config(baseline: str, name: str) -> BaselineConfig:
    """The configuration of a baseline: ``default`` is the shipped one, anything else a YAML file.

    Raises :class:`ConfigError` or :class:`UsageError` as :func:`fusepipe.train.configs.reading.read_config` does.
    """
    return read_config(name, {"default": baseline}, BASELINES[baseline])
