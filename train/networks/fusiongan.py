"""FusionGAN: a generator that keeps infrared radiation and is taught visible detail by an adversary.

Source: Ma, Yu, Liang, Li, Jiang, "FusionGAN: a generative adversarial network for infrared and
visible image fusion", Information Fusion 48, 2019. Images are N x 1 x H x W float tensors in [0, 1];
the losses are computed on [-1, 1], as the generator's tanh gives it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusepipe.train.networks.borders import extend

BORDER = 6
"""Pixels that the unpadded convolutions take off each side: a patch of 132 gives one of 120."""

_LAYERS = ((2, 256, 5), (256, 128, 5), (128, 64, 3), (64, 32, 3))
_SLOPE = 0.2
# The statistics of a few patches vary much: they are averaged over the last fifty steps.
_MOMENTUM = 0.02


class FusionGanNet(nn.Module):
    """The generator: 5x5 2 -> 256, 5x5 -> 128, 3x3 -> 64, 3x3 -> 32 (batch norm, leaky ReLU), 1x1 -> 1, tanh.

    925,633 parameters, 924,192 multiply-accumulates per pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, kernel) for i, o, kernel in _LAYERS])
        self.norms = nn.ModuleList([nn.BatchNorm2d(o, momentum=_MOMENTUM) for _, o, _ in _LAYERS])
        self.head = nn.Conv2d(_LAYERS[-1][1], 1, 1)

    def inner(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Without padding, as in training: N x 1 x (H - 12) x (W - 12)."""
        features = torch.cat((infrared, visible), dim=1) * 2 - 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = F.leaky_relu(norm(convolution(features)), _SLOPE)
        image: Tensor = (torch.tanh(self.head(features)) + 1) / 2
        return image

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses images of any size: their edge pixels are repeated outwards."""
        return self.inner(extend(infrared, BORDER), extend(visible, BORDER))

    def folded(self) -> FusionGanNet:
        """A copy in evaluation mode whose batch norms are part of the convolutions."""
        copy = FusionGanNet()
        copy.load_state_dict(self.state_dict())
        copy.eval()
        for index, (convolution, norm) in enumerate(zip(copy.convolutions, copy.norms, strict=True)):
            # a list of modules does not tell their types
            copy.convolutions[index] = fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
            copy.norms[index] = nn.Identity()
        return copy


class Critic(nn.Module):
    """The discriminator: 3x3 stride-2 convolutions 32-64-128-256 (batch norm, leaky ReLU), then linear."""

    def __init__(self, patch_px: int, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width in widths:
            layers.append(nn.Conv2d(inputs, width, 3, stride=2, padding=1))
            if layers[1:]:  # not on the image itself
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(_SLOPE))
            inputs, patch_px = width, -(-patch_px // 2)
        self.features = nn.Sequential(*layers)
        self.score = nn.Linear(inputs * patch_px * patch_px, 1)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 scores of N x 1 x P x P patches in [0, 1], P as built."""
        score: Tensor = self.score(self.features(image * 2 - 1).flatten(1))
        return score


def laplacian(image: Tensor) -> Tensor:
    """Sum of the four neighbours minus four times the pixel: N x 1 x (H - 2) x (W - 2)."""
    middle = image[..., 1:-1, 1:-1]
    rows = image[..., :-2, 1:-1] + image[..., 2:, 1:-1]
    columns = image[..., 1:-1, :-2] + image[..., 1:-1, 2:]
    return rows + columns - 4 * middle


def content_losses(made: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Unweighted MSE to the infrared and MSE of the Laplacians to the visible image, on [-1, 1] (eq. 4)."""
    # a distance in [-1, 1] is twice that in [0, 1]
    return {
        "intensity": 4 * F.mse_loss(made, infrared),
        "gradient": 4 * F.mse_loss(laplacian(made), laplacian(visible)),
    }


def _labels(score: Tensor, low: float, high: float, noise: torch.Generator) -> Tensor:
    return torch.empty(score.shape).uniform_(low, high, generator=noise).to(score.device)


def deceiving_loss(score: Tensor, noise: torch.Generator) -> Tensor:
    """Least squares to soft labels of a real image, 0.7 .. 1.2 (eq. 3); ``score`` is N x 1 of fused patches."""
    return F.mse_loss(score, _labels(score, 0.7, 1.2, noise))


def critic_loss(real: Tensor, made: Tensor, noise: torch.Generator) -> Tensor:
    """Least squares to soft labels: 0.7 .. 1.2 for visible patches, 0 .. 0.3 for fused ones (eq. 6); N x 1 each."""
    return F.mse_loss(real, _labels(real, 0.7, 1.2, noise)) + F.mse_loss(made, _labels(made, 0.0, 0.3, noise))
