"""Configuration of the trainings with a teacher: the students, and ``mfe`` from its own first stage."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fusepipe.train.configs.fields import (
    Channels,
    ConfigSection,
    Crop,
    Losses,
    Positive,
    Rate,
    Seed,
    Side,
    TemporalConsistency,
    Weight,
)
from fusepipe.train.configs.reading import read_config
from fusepipe.train.data.sensors import Sensors

SHIPPED = {"default": "student", "stream-first": "student_first", "stream-hq": "stream_hq", "mfe": "mfe_ranked"}
"""Shipped configurations: name to file."""

Share = Annotated[float, Field(ge=0, le=1)]


class Ramp(ConfigSection):
    """A weight that moves linearly from the first step to the last."""

    start: Weight
    """At the first step."""
    end: Weight
    """At the last step."""

    def at(self, part: float) -> float:
        """The weight after this part of the run, in [0, 1]."""
        return self.start + (self.end - self.start) * part


class Forms(ConfigSection):
    """How often a crop is of each form of a pair (relative); 0 leaves a form out."""

    full: Weight = 1.0
    """At the size of the decoded images."""
    half: Weight = 0.7
    """At half that size: a crop then shows four times as much of the scene."""
    variant: Weight = 0.3
    """With other gain, contrast, polarity, sharpness, borders and light (``data.variants``)."""
    flat: Weight = 0.0
    """With the low contrast that the infrared images of uncooled cameras often have (``data.variants.flat``)."""

    @model_validator(mode="after")
    def _one_is_drawn(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("give at least one form a weight")
        return self


class DetectorLossConfig(ConfigSection):
    """The loss on what a detector sees (``losses.detection``); used where the run has a detector."""

    weight: Weight = 0.5
    """Weight of the term."""
    every: Positive = 6
    """Steps between two images that the detector looks at."""
    start: Share = 0.3
    """Share of the run after which the term begins."""


class StudentConfig(ConfigSection):
    """Training of a network from the images of its teacher, ``mfe`` after its first stage: a student, or ``mfe``."""

    model: Literal["stream", "stream-hq", "mfe"] = "stream"
    """Name of the model and of its files; ``mfe`` has the form of its initial weights, whatever the next four keys."""
    channels: Channels = 48
    """Width of the hidden layers; multiples of 16 run best."""
    levels: Annotated[int, Field(ge=1, le=6)] = 3
    """Levels of the pyramid above the coarse one; one less takes four times the arithmetic."""
    encoder_layers: Positive = 3
    """Convolutions of the encoder, which each source passes separately."""
    decoder_layers: Positive = 2
    """Convolutions of the decoder, after the gate, without the head."""
    initial: str = ""
    """Initial weights: ``stream``, ``stream-hq`` or ``mfe`` as shipped, ``stream-first`` or ``mfe-first`` (after the
    first stage), or the path of such a file; a student's may have more levels. Empty starts from random ones, which
    ``mfe`` cannot."""
    steps: Positive = 26_000
    """Optimiser steps."""
    batch: Positive = 3
    """Crops per step."""
    crop_px: Annotated[Crop, Field(ge=64)] = 160
    """Height and width of a crop; with a batch of one, smaller images are taken whole."""
    learning_rate: Rate = 4e-3
    """Peak of the one-cycle rate, at a tenth of the run."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is validated and exported."""
    seed: Seed = 0
    """Of initialisation, crops and noise."""
    clip_norm: Weight = 1.0
    """Gradients longer than this are shortened to it; 0 leaves them."""
    max_side_px: Side = 800
    """Larger images are halved until they fit, so that a crop shows as much of the scene as in the smaller sets."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's passes; bf16 is fast on CPUs that have its instructions."""
    validate_every: Positive = 2000
    """Steps between validations and checkpoints."""
    sets: dict[str, Weight] = Field(
        default={
            "roadscene": 0.22,
            "msrs": 0.12,
            "llvip": 0.14,
            "m3svd": 0.11,
            "m3fd": 0.21,
            "msrs_more": 0.05,
            "kaist": 0.08,
            "llvip_more": 0.07,
        },
        min_length=1,
    )
    """How often a crop is of each data set of the split (relative); sets that are not named are left out."""
    forms: Forms = Forms()
    sensors: Sensors = Sensors()
    teacher: Ramp = Ramp(start=24, end=20)
    """Weight of the mean absolute distance to the teacher's image."""
    fusion: Ramp = Ramp(start=0.4, end=0.5)
    """Weight of the fusion loss, whose terms are weighted by ``losses``."""
    losses: Losses = Losses(
        intensity=4.0, gradient=8.0, ssim=2.5, correlation=5.5, fidelity=1.6, edges=2.5, information=6.0
    )
    agreement: Weight = 1.5
    """Weight of the correlation with both sources."""
    target: Weight = 3.0
    """Weight of the contrast and the edges of warm objects (``losses.targets``)."""
    overflow: Weight = 5.0
    """Weight of the mean distance of levels outside [0, 1] to that range."""
    ranking: Weight = 0.0
    """Weight of the share of metrics in which the mean, the brighter source, the teacher and ``rivals`` are ahead
    (``losses.ranking``)."""
    rivals: tuple[str, ...] = ()
    """ONNX files of further networks with whose images ``ranking`` compares (``benchmarks/networks`` has two)."""
    temporal_consistency: TemporalConsistency = TemporalConsistency(flicker=0.25, luminance=0.7)
    temporal_every: Positive = 6
    """Steps between two batches that are fused a second time."""
    detection: DetectorLossConfig = DetectorLossConfig()

    @model_validator(mode="after")
    def _mfe_starts_from_weights(self) -> Self:
        if self.model == "mfe" and not self.initial:
            raise ValueError("mfe needs initial weights: mfe-first, mfe or a file")
        return self


def load_student_config(name: str) -> StudentConfig:
    """A shipped configuration by name (``default`` is that of ``stream``), else a YAML file by its path.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    return read_config(name, SHIPPED, StudentConfig)
