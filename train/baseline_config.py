"""What the training of a learned baseline is: frozen models, read from YAML; unknown keys are refused."""

from __future__ import annotations

from fusepipe.train.config import Crop, Model, Positive, Rate, Seed, Side, Threads, Weight


class BaselineConfig(Model):
    """What the trainings of all baselines have in common; the defaults are those of a short one on a CPU."""

    steps: Positive = 1000
    """Optimiser steps."""
    batch: Positive = 2
    """Patches a step."""
    crop_px: Crop = 64
    """Height and width of a patch as the network sees it."""
    learning_rate: Rate = 1e-3
    """Peak of the one-cycle rate of every network."""
    seed: Seed = 0
    """Of initialisation, patches and augmentation."""
    max_side_px: Side = 800
    """Larger images are halved until they fit."""
    threads: Threads = 1
    """CPU threads; 0 is all. One is the fastest a core, and a run resumes to the bit with equally many."""
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
