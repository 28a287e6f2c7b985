"""Types, limits and sections that several training configurations have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fusepipe.train.losses.fusion import MIN_SIDE_PX, LossWeights

Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Channels = Annotated[int, Field(gt=0, le=1024)]
Threads = Annotated[int, Field(ge=0, le=256)]
"""0 is all; PyTorch crashes with far too many."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Limited so that 1,000,003 x seed + step is a valid seed of PyTorch's generators."""
Side = Annotated[int, Field(ge=MIN_SIDE_PX)]
Crop = Annotated[int, Field(ge=MIN_SIDE_PX, le=4096)]


class ConfigSection(BaseModel):
    """Base of all configurations: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Losses(ConfigSection):
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


class TemporalConsistency(ConfigSection):
    """Weights of the terms against flicker; a quarter of each batch is fused twice.

    See ``losses.temporal_consistency``.
    """

    flicker: Weight = 0.0
    """Temporal noise of the fused image in excess of its sources'."""
    luminance: Weight = 0.0
    """Change of its mean in excess of its sources'."""
