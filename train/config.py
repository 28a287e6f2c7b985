"""What a training run is: a frozen model, read from YAML; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusepipe.train.config_file import read_config
from fusepipe.train.data.augmentation import Augmentation
from fusepipe.train.losses.fusion import LossWeights

SHIPPED = {"default": "student", "stream-hq": "stream_hq"}
"""Shipped configurations of students: name to file."""

Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Channels = Annotated[int, Field(gt=0, le=1024)]
Threads = Annotated[int, Field(ge=0, le=256)]
"""0 is all; far too many crash PyTorch."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Times a million it still is a seed of PyTorch's generators, whatever the step."""
LEAST_PX = 16
"""Sides of an image that the losses take: the fidelity's smallest window, three halvings down."""
Side = Annotated[int, Field(ge=LEAST_PX)]
Crop = Annotated[int, Field(ge=LEAST_PX, le=4096)]


class Model(BaseModel):
    """Frozen; unknown keys and numbers that are none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Losses(Model):
    """Weights of the terms of the loss; see ``fusepipe.train.losses.fusion``."""

    intensity: Weight = 5.0
    """Distance to the brighter source."""
    gradient: Weight = 8.0
    """Distance to the larger source gradient."""
    ssim: Weight = 2.5
    """Structural similarity to both sources."""
    correlation: Weight = 6.5
    """Sum of correlations of differences."""
    fidelity: Weight = 1.2
    """Visual information kept of both sources."""
    edges: Weight = 1.5
    """Edges kept of both sources."""
    information: Weight = 2.2
    """Mutual information with both sources."""

    def weights(self) -> LossWeights:
        return LossWeights(**self.model_dump())


class Steadiness(Model):
    """Weights of what keeps a video calm; a quarter of each batch is seen twice (``losses.steadiness``)."""

    flicker: Weight = 0.0
    """Noise that the fused image has beyond its sources'."""
    luminance: Weight = 0.0
    """Changes of its mean beyond its sources'."""


class Finish(Model):
    """What is done to the trained weights before they are scored and exported."""

    earlier: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the run's weights at ``earlier_step``, averaged in (Wortsman et al. 2022, "Model soups"): more
    mutual information, for a little less of edges."""
    earlier_step: Annotated[int, Field(ge=0)] = 8000
    """When; a run that is shorter averages nothing."""

    mixing: Annotated[float, Field(gt=0)] = 1.5
    """Of the mixing weight's logits: above 1 each pixel keeps closer to one of its sources."""
    detail: Weight = 0.9
    """Of the detail, before its tanh: below 1 less is added to the mix."""


class StudentConfig(Model):
    """Training of the student network."""

    model: Literal["stream", "stream-hq"] = "stream"
    """Name of what is trained, and of its files."""
    channels: Channels = 16
    """Width of the hidden layers; multiples of 16 run best."""
    encoder_layers: Positive = 4
    """Convolutions that each source passes by itself."""
    decoder_layers: Positive = 3
    """Convolutions after the sources have met, without the last."""
    branches: bool = True
    """Each hidden layer trains as a sum of branches, folded on export (``networks.branches``)."""
    steps: Positive = 20_000
    """Optimiser steps."""
    batch: Positive = 6
    """Crops a step."""
    crop_px: Annotated[Crop, Field(multiple_of=2)] = 112
    """Height and width of a crop."""
    learning_rate: Rate = 2e-3
    """Peak of the one-cycle rate."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is what is validated and exported."""
    teacher: str = ""
    """Whom the student also imitates: ``mfe``, ``stream`` or ``stream-hq`` as shipped, or the path of such weights."""
    distillation: Weight = 0.0
    """Weight of the distance to the teacher's image."""
    start: str = ""
    """Path of weights (``.safetensors``) to begin with; empty begins with random ones."""
    seed: Seed = 0
    """Of initialisation, crops and augmentation."""
    clip_norm: Weight = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""
    max_side_px: Side = 800
    """Larger pairs are halved until they fit: a crop then holds as much scene as of the smaller sets."""
    halves: bool = True
    """Each pair trains at half its size too, where a crop fits: it then holds four times as much of the scene."""
    validate_every: Positive = 2000
    """Steps between validations and checkpoints."""
    losses: Losses = Losses(correlation=7.0, fidelity=1.4, edges=1.8, information=2.5)
    steadiness: Steadiness = Steadiness(flicker=1.0, luminance=0.5)
    augmentation: Augmentation = Augmentation(
        tone=0.25,
        zoom=0.262,
        low_light=0.02,
        grain=0.012,
        noise=0.003,
        shift_px=0.15,
        swap=0.05,
        invert=0.08,
    )
    finish: Finish = Finish()

    @model_validator(mode="after")
    def _distillation_has_a_teacher(self) -> Self:
        if bool(self.teacher) != bool(self.distillation):
            raise ValueError("teacher and distillation go together: give both or neither")
        return self


def load_config(name: str) -> StudentConfig:
    """A shipped configuration by name (``default`` is that of ``stream``), else a YAML file by its path.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    return read_config(name, SHIPPED, StudentConfig)
