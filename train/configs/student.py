"""Configuration of the students' training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fusepipe.train.configs.fields import (
    Channels,
    Crop,
    Losses,
    Model,
    Positive,
    Rate,
    Seed,
    Side,
    Steadiness,
    Weight,
)
from fusepipe.train.configs.reading import read_config
from fusepipe.train.data.augmentation import Augmentation

SHIPPED = {"default": "student", "stream-hq": "stream_hq"}
"""Shipped configurations of students: name to file."""


class Finish(Model):
    """Changes of the trained weights before they are scored and exported."""

    earlier: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the run's weights at ``earlier_step``, averaged in (Wortsman et al. 2022, "Model soups"): more
    mutual information, for a little less of edges."""
    earlier_step: Annotated[int, Field(ge=0)] = 8000
    """Step of those weights; a shorter run averages nothing."""

    mixing: Annotated[float, Field(gt=0)] = 1.5
    """Factor of the mixing weight's logits: above 1 each pixel stays closer to one of its sources."""
    detail: Weight = 0.9
    """Factor of the detail before its tanh: below 1 less is added to the mix."""


class StudentConfig(Model):
    """Training of the student network."""

    model: Literal["stream", "stream-hq"] = "stream"
    """Name of the model and of its files."""
    channels: Channels = 16
    """Width of the hidden layers; multiples of 16 run best."""
    encoder_layers: Positive = 4
    """Convolutions of the encoder, which each source passes separately."""
    decoder_layers: Positive = 3
    """Convolutions of the decoder, after the gate, without the last."""
    branches: bool = True
    """Train each hidden layer as a sum of branches, folded on export (``networks.branches``)."""
    steps: Positive = 20_000
    """Optimiser steps."""
    batch: Positive = 6
    """Crops per step."""
    crop_px: Annotated[Crop, Field(multiple_of=2)] = 112
    """Height and width of a crop."""
    learning_rate: Rate = 2e-3
    """Peak of the one-cycle rate."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is validated and exported."""
    teacher: str = ""
    """Teacher of the distillation: ``mfe``, ``stream`` or ``stream-hq`` as shipped, or the path of such weights."""
    distillation: Weight = 0.0
    """Weight of the distance to the teacher's image."""
    start: str = ""
    """Path of the initial weights (``.safetensors``); empty starts from random ones."""
    seed: Seed = 0
    """Of initialisation, crops and augmentation."""
    clip_norm: Weight = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""
    max_side_px: Side = 800
    """Larger pairs are halved until they fit, so that a crop shows as much of the scene as in the smaller sets."""
    halves: bool = True
    """Train on each pair at half its size too, where a crop fits: it then shows four times as much of the scene."""
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


def load_student_config(name: str) -> StudentConfig:
    """A shipped configuration by name (``default`` is that of ``stream``), else a YAML file by its path.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    return read_config(name, SHIPPED, StudentConfig)
