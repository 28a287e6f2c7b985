"""The student networks ``stream`` and ``stream-hq``: real-time fusion of one infrared and one visible luma image.

The structure of ``mfe`` (shared feature extractor, attention between the two sources, reconstruction) at a fortieth of
its arithmetic (``stream-hq``: a fifteenth): both sources pass the same encoder at half resolution (pixel-unshuffle by
2, which is lossless), a sigmoid gate weights the two feature maps, a decoder predicts a mixing weight and a detail for
each pixel, and pixel-shuffle restores the size.

The output is ``b + d b (1 - b)``, clamped to [0, 1], with the convex mix ``b = w ir + (1 - w) vis`` and ``d`` in [-2,
2]: the detail can turn a mid grey into black or white, and where both images are black or white the output is too, by
construction. It fades out where the images hardly differ, so that equal images are returned unchanged; that changes no
score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MULTIPLE = 2
"""Height and width of the input must be multiples of this."""


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    # Zero padding: replicate padding made training several times slower and changes no score.
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class StudentNet(nn.Module):
    """Two-stream student; ``channels`` is the width of every hidden layer.

    As it is by default (``stream``) 6,464 multiply-accumulates per pixel.
    """

    def __init__(self, channels: int = 16, encoder_layers: int = 4, decoder_layers: int = 3) -> None:
        super().__init__()
        c = channels
        self.channels = channels
        self.encoder = nn.ModuleList([_conv(4, c), *(_conv(c, c) for _ in range(encoder_layers - 1))])
        self.gate = _conv(2 * c, c, kernel=1)
        self.decoder = nn.ModuleList([_conv(2 * c, c), *(_conv(c, c) for _ in range(decoder_layers - 1))])
        self.head = _conv(c, 8)
        # Pixel-unshuffle as a convolution: exact (ones and zeros), and a single node of the exported
        # graph, where torch writes pixel_unshuffle as a dozen shape computations.
        self.unshuffle: Tensor
        self.register_buffer("unshuffle", torch.eye(4).reshape(4, 1, MULTIPLE, MULTIPLE), persistent=False)

    def _encode(self, cells: Tensor) -> Tensor:
        features = cells
        for layer in self.encoder:
            features = F.relu(layer(features))
        return features

    @staticmethod
    def _disagreement(cells_ir: Tensor, cells_vis: Tensor) -> Tensor:
        """0 where the images are the same around a cell, 1 where 4 grey levels or more apart: N x 1 x H/2 x W/2."""
        difference = (cells_ir - cells_vis).abs().mean(dim=1, keepdim=True)
        around = F.avg_pool2d(difference, 5, stride=1, padding=2, count_include_pad=False)
        return (around * (255.0 / 4.0)).clamp(max=1.0)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses N x 1 x H x W float images in [0, 1]; H and W even; the result is in [0, 1]."""
        cells_ir = F.conv2d(infrared, self.unshuffle, stride=MULTIPLE)
        cells_vis = F.conv2d(visible, self.unshuffle, stride=MULTIPLE)
        # Two calls: cheaper at run time than one call on the concatenated batch.
        features_ir, features_vis = self._encode(cells_ir), self._encode(cells_vis)
        gate = torch.sigmoid(self.gate(torch.cat((features_ir, features_vis), dim=1)))
        features = torch.cat((gate * features_ir, (1 - gate) * features_vis), dim=1)
        for layer in self.decoder:
            features = F.relu(layer(features))
        weight, detail = self.head(features).split(4, dim=1)
        mix = cells_vis + torch.sigmoid(weight) * (cells_ir - cells_vis)
        cells = mix + 2 * self._disagreement(cells_ir, cells_vis) * torch.tanh(detail) * mix * (1 - mix)
        fused: Tensor = F.pixel_shuffle(cells, MULTIPLE).clamp(0.0, 1.0)
        return fused


def average(network: StudentNet, other: StudentNet, share: float) -> None:
    """Moves the weights towards those of another training of the same form by a share from 0 to 1, in place."""
    with torch.no_grad():
        for own, given in zip(network.parameters(), other.parameters(), strict=True):
            own.lerp_(given, share)


def finish(network: StudentNet, mixing: float, detail: float) -> None:
    """Scales the mixing weight's logits and the detail (before its tanh) in place; 1 leaves them.

    A network trained on a sum of losses compromises at each pixel; metrics of whole images (mutual information, edges,
    fidelity against the correlation of differences) can be traded against each other afterwards.
    """
    with torch.no_grad():
        for parameter in (network.head.weight, network.head.bias):
            assert parameter is not None
            parameter[:4] *= mixing
            parameter[4:] *= detail


class ByteFusion(nn.Module):
    """A fusion network with uint8 luma in and out, as exported: N x 1 x H x W to the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """N x 1 x H x W uint8 in and out; the network clamps to [0, 1]."""
        fused = self.network(infrared.float() / 255.0, visible.float() / 255.0)
        return torch.round(fused * 255.0).to(torch.uint8)


def macs_per_pixel(network: StudentNet) -> float:
    """Multiply-accumulates of the convolutions per pixel of the full-size image (encoder counted twice)."""
    cells = MULTIPLE * MULTIPLE

    def cost(layer: nn.Module) -> int:
        return sum(p.numel() for name, p in layer.named_parameters() if name.endswith("weight"))

    return (2 * cost(network.encoder) + cost(network.gate) + cost(network.decoder) + cost(network.head)) / cells
