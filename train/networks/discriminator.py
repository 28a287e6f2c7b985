"""The critic of the adversarial trainings: strided convolutions, then one score a crop."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_SLOPE = 0.2


class Discriminator(nn.Module):
    """3x3 stride-2 convolutions of ``widths`` with LeakyReLU 0.2, then linear.

    ``batch_norm`` normalises all but the first layer; ``centred`` takes the crops from [0, 1] to [-1, 1] first.
    """

    def __init__(
        self,
        crop_px: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        *,
        batch_norm: bool = False,
        centred: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, side = 1, crop_px
        for width in widths:
            layers.append(nn.Conv2d(inputs, width, 3, stride=2, padding=1))
            if batch_norm and layers[1:]:  # not on the image itself
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(_SLOPE))
            inputs, side = width, -(-side // 2)
        self.centred = centred
        self.features = nn.Sequential(*layers)
        self.score = nn.Linear(inputs * side * side, 1)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 scores of N x 1 x C x C crops in [0, 1], C as built."""
        image = image * 2 - 1 if self.centred else image
        score: Tensor = self.score(self.features(image).flatten(1))
        return score
