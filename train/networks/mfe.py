"""``mfe``: the paper's network for fusing one infrared and one visible luma image.

Source: Liu, Fan, Jiang, Liu, Luo, "Learning attention guided deep multi-scale feature ensemble for
infrared and visible image fusion", ICME 2020. Extractor (section 2.1), edge-guided attention (Eqs. 1
and 2, Fig. 3), fusion (Eq. 3), feature-compensating reconstruction (Eq. 4). The three switches remove
the parts that Table 2 of the paper removes: dense connections (D), attention (A), skips (S).

All images are N x 1 x H x W float tensors in [0, 1], of any height and width from 1. Where the paper
is ambiguous, the class documents the choice and its reason.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Reading = Literal["sources", "channels"]
"""Interpretation of Eq. 3; see :func:`fuse`."""

WIDTH = 16
"""Channels of the stem and of each layer of a path."""
LEVELS = (32, 48, 64)
"""Channels of the shallow, the middle and the deep level of the features."""
DILATIONS = (1, 2, 3)
"""Of the first layer of each path: receptive fields of 3, 5 and 7 pixels."""
_EDGE_GAIN = 10.0  # of the attention's first layer, at its start


def _conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    # Zero padding: replicate padding makes training several times slower.
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


class Path(nn.Module):
    """Three convolutions of 16 channels, the first dilated; the output is the stem and all three, 16 channels each.

    Each takes the concatenation of all previous outputs (16, 32, 48 channels), or with ``dense=False`` only the
    previous one: only the dense connections are missing then, and all other parts keep their widths.
    """

    def __init__(self, dilation: int, *, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        widths = (WIDTH, 2 * WIDTH, 3 * WIDTH) if dense else (WIDTH,) * 3
        self.layers = nn.ModuleList(
            _conv(width, WIDTH, dilation if index == 0 else 1) for index, width in enumerate(widths)
        )

    def forward(self, stem: Tensor) -> list[Tensor]:
        """N x 16 x H x W to four of them."""
        parts = [stem]
        for layer in self.layers:
            seen = parts if self.dense else parts[-1:]
            parts.append(F.relu(layer(torch.cat(seen, dim=1) if len(seen) > 1 else seen[0])))
        return parts


class Extractor(nn.Module):
    """Stem 1 -> 16 and the sum of the three paths (section 2.1).

    The first 32, 48 and all 64 channels of the result are its three levels: concatenation keeps every
    level inside the next, so that summing the last level sums them all.
    """

    def __init__(self, *, dense: bool = True) -> None:
        super().__init__()
        self.stem = _conv(1, WIDTH)
        self.paths = nn.ModuleList(Path(dilation, dense=dense) for dilation in DILATIONS)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 x H x W to N x 64 x H x W, nothing below 0."""
        stem = F.relu(self.stem(image))
        paths = [path(stem) for path in self.paths]
        # Added before they are put together: the same sums, and three tensors of 64 channels less to write and read.
        return torch.cat([first + second + third for first, second, third in zip(*paths, strict=True)], dim=1)


def edge_map(image: Tensor) -> Tensor:
    """The edges of N x 1 x H x W images, in the same size (Eqs. 1 and 2).

    ``G = sqrt((u - right)^2 + (u - below)^2)`` with the last row and column replicated, which makes their
    differences 0 (the sum in Eq. 1 is the notation of total variation; the map is per pixel). Then the
    maximum with the row below, then with the column to the right: a 2x2 maximum that keeps the size.
    """
    # sqrt has no gradient at 0: the image must not require one (it is an input, never a result)
    across = F.pad(image.diff(dim=-1), (0, 1, 0, 0))
    down = F.pad(image.diff(dim=-2), (0, 0, 0, 1))
    gradient = torch.sqrt(across.square() + down.square())
    # padding by 0 equals replication here: the maximum with a neighbour of 0 is the pixel itself
    gradient = torch.maximum(gradient, F.pad(gradient[..., 1:, :], (0, 0, 0, 1)))
    return torch.maximum(gradient, F.pad(gradient[..., :, 1:], (0, 1, 0, 0)))


class Attention(nn.Module):
    """Edge-guided attention (Fig. 3): pairs of a plain and a dilated convolution, 64 maps, at half resolution.

    At full resolution it would be over half of the network's arithmetic. Every second pixel of the edge
    map is the maximum of a 2x2 block (Eq. 2), so halving loses no edge.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = ((1, 32, 32), (32, 64, 128), (128, 64, 32))
        self.layers = nn.ModuleList(
            layer
            for inputs, between, outputs in widths
            for layer in (_conv(inputs, between), _conv(between, outputs, dilation=2))
        )
        self.head = nn.Conv2d(32, LEVELS[-1], 1)
        # Edges are hundredths, and PyTorch's default initialisation passes 40 % of a signal per layer: the maps of two
        # images would differ by 1e-4 and both weights stay at one half for hundreds of steps.
        with torch.no_grad():
            for name, parameter in self.layers.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                    parameter.mul_(_EDGE_GAIN if name == "0.weight" else 1.0)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 x H x W to N x 64 x ceil(H / 2) x ceil(W / 2), any values."""
        features = edge_map(image)[..., ::2, ::2]
        for layer in self.layers:
            features = F.relu(layer(features))
        maps: Tensor = self.head(features)
        return maps


def _enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """Twice as large, bilinear, cropped to H x W: cell k of the maps covers the pixels 2k and 2k + 1."""
    enlarged = F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
    return enlarged[..., :height, :width]


def fuse(features: tuple[Tensor, Tensor], maps: tuple[Tensor, Tensor], reading: Reading) -> Tensor:
    """Infrared and visible features (N x 64 x H x W) weighted by their attention maps of half size (Eq. 3).

    ``sources`` takes the softmax over the two sources, ``W_ir f_ir + W_vis f_vis``: weights that sum to 1,
    so that equal features stay exactly as they are. ``channels`` is the literal reading, a softmax over
    the 64 channels of the sum of the attended features; it makes the features of every pixel sum to 1,
    whatever their amplitude was, and is here for comparison.
    """
    infrared, visible = features
    height, width = infrared.shape[-2:]
    if reading == "channels":
        attended = [f * _enlarge(m, height, width) for f, m in zip(features, maps, strict=True)]
        return torch.softmax(attended[0] + attended[1], dim=1)
    # the softmax of two is the sigmoid of their difference; linear interpolation keeps weights in [0, 1]
    weight = _enlarge(torch.sigmoid(maps[0] - maps[1]), height, width)
    return visible + weight * (infrared - visible)


def levels(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Deep (64), middle (48) and shallow (32 channels) level of N x 64 x H x W features."""
    shallow, middle, _ = LEVELS
    return features, features[:, :middle], features[:, :shallow]


class Reconstruction(nn.Module):
    """64 -> 64 -> 48 -> 32 -> 1; each hidden layer gets the level of its width added (Eq. 4, mirrored pairing).

    A deconvolution of stride 1 is a convolution, so it is one here.
    """

    def __init__(self, *, skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.layers = nn.ModuleList([_conv(64, 64), _conv(64, 48), _conv(48, 32)])
        self.head = _conv(32, 1)

    def forward(self, deep: Tensor, middle: Tensor, shallow: Tensor, keep: Tensor | None = None) -> Tensor:
        """The image, N x 1 x H x W, not clipped to [0, 1], so that errors beyond it have a gradient.

        ``keep`` (N x 3 of 0 and 1) drops the skips of single images of the batch: if all are always present, the
        shallow one learns the image first and the deep levels remain unused.
        """
        made = deep
        for index, (layer, skip) in enumerate(zip(self.layers, (deep, middle, shallow), strict=True)):
            made = F.relu(layer(made))
            if self.skips:
                made = made + (skip if keep is None else skip * keep[:, index, None, None, None])
        image: Tensor = self.head(made)
        return image


class AutoEncoder(nn.Module):
    """Extractor and reconstruction alone: what stage 1 trains on photographs."""

    def __init__(self, extractor: Extractor, reconstruction: Reconstruction) -> None:
        super().__init__()
        self.extractor, self.reconstruction = extractor, reconstruction

    def forward(self, image: Tensor, keep: Tensor | None = None) -> Tensor:
        """N x 1 x H x W to the same, not limited to [0, 1]; ``keep`` as of :class:`Reconstruction`."""
        made: Tensor = self.reconstruction(*levels(self.extractor(image)), keep)
        return made


def pulled_back(fused: Tensor, infrared: Tensor, visible: Tensor, overshoot: float) -> Tensor:
    """Scales the part of ``fused`` outside the range of its two sources by ``overshoot`` (0 to 1); N x 1 x H x W.

    Levels between the sources are unchanged. With a small ``overshoot`` a pixel that would exceed one source gets
    nearly the level of that source, which keeps its information (mutual information, fidelity), and two equal images
    are returned nearly unchanged. 1 is the paper's network.
    """
    between = torch.maximum(torch.minimum(fused, torch.maximum(infrared, visible)), torch.minimum(infrared, visible))
    return between + overshoot * (fused - between)


class MfeNet(nn.Module):
    """The full model; ``dense``, ``attention`` and ``skips`` switch off its parts, ``reading`` is that of Eq. 3.

    ``overshoot`` is that of :func:`pulled_back`.
    """

    def __init__(
        self,
        *,
        dense: bool = True,
        attention: bool = True,
        skips: bool = True,
        reading: Reading = "sources",
        overshoot: float = 1.0,
    ) -> None:
        super().__init__()
        self.dense, self.skips, self.reading, self.overshoot = dense, skips, reading, overshoot
        self.extractor = Extractor(dense=dense)
        self.attention = Attention() if attention else None
        self.reconstruction = Reconstruction(skips=skips)

    @property
    def autoencoder(self) -> AutoEncoder:
        """Stage 1's view of the network: the same modules."""
        return AutoEncoder(self.extractor, self.reconstruction)

    def features(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The fused features, N x 64 x H x W; without attention the mean of both."""
        # two calls: cheaper at run time than one call on the concatenated batch
        both: tuple[Tensor, Tensor] = (self.extractor(infrared), self.extractor(visible))
        if self.attention is None:
            return both[1] + 0.5 * (both[0] - both[1])
        return fuse(both, (self.attention(infrared), self.attention(visible)), self.reading)

    def unlimited(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The fused image before it is limited to [0, 1]."""
        fused: Tensor = self.reconstruction(*levels(self.features(infrared, visible)))
        return fused if self.overshoot == 1.0 else pulled_back(fused, infrared, visible, self.overshoot)

    def weights(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Weights of the infrared features, N x 64 x H x W in [0, 1]; 0.5 everywhere without attention.

        These are the weights of the interpretation ``sources``.
        """
        height, width = infrared.shape[-2:]
        if self.attention is None:
            return infrared.new_full((len(infrared), LEVELS[-1], height, width), 0.5)
        return _enlarge(torch.sigmoid(self.attention(infrared) - self.attention(visible)), height, width)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Fuses two images of one size; the result is in [0, 1].

        In training mode it is not clipped, so that errors beyond black or white have a gradient.
        """
        fused = self.unlimited(infrared, visible)
        return fused if self.training else fused.clamp(0.0, 1.0)


class AttentionShare(nn.Module):
    """The attention of a network as an image: the infrared's weights, mean over the maps."""

    def __init__(self, network: MfeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """N x 1 x H x W in [0, 1]: 1 where only the infrared contributes."""
        return self.network.weights(infrared, visible).mean(dim=1, keepdim=True)
