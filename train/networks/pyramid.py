"""``stream`` and ``stream-hq``: fusion on the coarse level of a pyramid, with the sources' detail added level by level.

Both images are averaged down ``levels`` times by two. At that size both pass one encoder (on cells of 2x2 pixels, by
pixel-unshuffle), a sigmoid gate weighs the two feature maps, and a decoder gives the fused coarse image, and for each
finer level a *gate* and a *gain*. A finer level adds detail (an image minus its coarser version, enlarged)::

    fused = enlarged coarser result + gain * (dv + z * (di - dv)),    z = clamp(gate + sharpness * (|di| - |dv|), 0, 1)

where ``di`` and ``dv`` are the details of the infrared and the visible image, gate and gain are enlarged from the
coarse network's maps, and ``sharpness`` is one number for each level: element-wise passes, which a CPU computes in
16-bit integers (:mod:`fusepipe.engines.backends.openvino.pyramid`, equal within one grey level). Levels finer than the
infrared image (``visible_levels``) take the visible detail unchanged. So nearly all arithmetic is spent on few, wide
cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 2
"""Side of a cell of the coarse image, in its pixels."""
_MIDDLE_GREY_STEPS = 16.0  # sharpness at the start: full choice at 8 grey levels


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    # Zero padding: runtimes fuse it into the convolution.
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def downsampled(image: Tensor) -> Tensor:
    """Half the size: means of 2x2 pixels; both sides even."""
    return F.avg_pool2d(image, 2)


def upsampled(image: Tensor, factor: int = 2) -> Tensor:
    """Larger by a whole factor, bilinear, pixel centres aligned as OpenCV's ``INTER_LINEAR`` has them."""
    return F.interpolate(image, scale_factor=float(factor), mode="bilinear", align_corners=False)


class PyramidNet(nn.Module):
    """The pyramid network of this module.

    ``channels`` is the width of every hidden layer, ``levels`` the number of finer levels above the coarse one: three
    are ``stream``, two ``stream-hq``, which has four times the arithmetic with the same layers.
    """

    def __init__(self, channels: int = 48, levels: int = 3, encoder_layers: int = 3, decoder_layers: int = 2) -> None:
        super().__init__()
        c = channels
        self.channels, self.levels = channels, levels
        self.encoder = nn.ModuleList([_conv(CELL * CELL, c), *(_conv(c, c) for _ in range(encoder_layers - 1))])
        self.gate = _conv(2 * c, c, kernel=1)
        self.decoder = nn.ModuleList([_conv(2 * c, c), *(_conv(c, c) for _ in range(decoder_layers - 1))])
        # a cell's mixing weights, details and gates (4 each), then a gate's offset and a gain for each level
        self.head = _conv(c, 3 * CELL * CELL + 2 * levels)
        self.sharpness = nn.Parameter(torch.full((levels,), _MIDDLE_GREY_STEPS).log())
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            assert self.head.bias is not None
            self.head.bias.zero_()
        self.unshuffle: Tensor
        self.register_buffer("unshuffle", torch.eye(4).reshape(4, 1, CELL, CELL), persistent=False)

    @property
    def multiple(self) -> int:
        """Heights and widths of what :meth:`stages` takes are multiples of this."""
        return int(CELL * 2**self.levels)

    def _encode(self, cells: Tensor) -> Tensor:
        features = F.relu(self.encoder[0](cells))
        for layer in list(self.encoder)[1:]:
            features = features + F.relu(layer(features))
        return features

    @staticmethod
    def _disagreement(cells_ir: Tensor, cells_vis: Tensor) -> Tensor:
        """0 where the images are the same around a cell, 1 where 4 grey levels or more apart: N x 1 x h x w."""
        difference = (cells_ir - cells_vis).abs().mean(dim=1, keepdim=True)
        around = F.avg_pool2d(difference, 5, stride=1, padding=2, count_include_pad=False)
        return (around * (255.0 / 4.0)).clamp(max=1.0)

    def coarse(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuses coarse images (N x 1 x h x w in [0, 1], even sides).

        Returns the fused image, the gates (N x levels x h x w, in [-.5, 1.5]) and the gains (N x levels x h/2 x w/2, in
        (0, 2)), finest level first.
        """
        cells_ir = F.conv2d(infrared, self.unshuffle, stride=CELL)
        cells_vis = F.conv2d(visible, self.unshuffle, stride=CELL)
        features_ir, features_vis = self._encode(cells_ir), self._encode(cells_vis)
        choice = torch.sigmoid(self.gate(torch.cat((features_ir, features_vis), dim=1)))
        features = torch.cat((choice * features_ir, (1 - choice) * features_vis), dim=1)
        features = F.relu(self.decoder[0](features))
        for layer in list(self.decoder)[1:]:
            features = features + F.relu(layer(features))
        weight, detail, gate, offsets, gains = self.head(features).split((4, 4, 4, self.levels, self.levels), dim=1)
        mix = cells_vis + torch.sigmoid(weight) * (cells_ir - cells_vis)
        mix = mix + 2 * self._disagreement(cells_ir, cells_vis) * torch.tanh(detail) * mix * (1 - mix)
        gates = 0.5 + F.pixel_shuffle(gate, CELL) + upsampled(offsets)
        return F.pixel_shuffle(mix, CELL), gates.clamp(-0.5, 1.5), 2 * torch.sigmoid(gains)

    def stages(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Fuses N x 1 x H x W images in [0, 1] whose sides are multiples of :attr:`multiple`.

        Returns the fused image, not limited to [0, 1], then what enters and leaves the coarse part: both coarse images,
        their fused image, gates and gains; see :meth:`coarse`.
        """
        pyramid = [(infrared, visible)]
        for _ in range(self.levels):
            pyramid.append((downsampled(pyramid[-1][0]), downsampled(pyramid[-1][1])))
        coarse, gates, gains = self.coarse(*pyramid[-1])
        result = coarse
        for level in reversed(range(self.levels)):
            (ir, vis), (small_ir, small_vis) = pyramid[level], pyramid[level + 1]
            di, dv = ir - upsampled(small_ir), vis - upsampled(small_vis)
            times = 2 ** (self.levels - level)
            gate = upsampled(gates[:, level : level + 1], times)
            gain = upsampled(gains[:, level : level + 1], CELL * times)
            z = (gate + self.sharpness[level].exp() * (di.abs() - dv.abs())).clamp(0.0, 1.0)
            result = upsampled(result) + gain * (dv + z * (di - dv))
        return result, *pyramid[-1], coarse, gates, gains

    def forward(self, infrared: Tensor, visible: Tensor, visible_levels: int = 0) -> Tensor:
        """Fuses N x 1 x H x W images in [0, 1] of any size; the result is in [0, 1] but in training mode.

        The infrared image is smaller by ``2 ** visible_levels`` (sides rounded up): finer levels then only take the
        visible image's detail.
        """
        height, width = visible.shape[-2:]
        visible = _padded(visible, self.multiple << visible_levels)
        rows, columns = (side >> visible_levels for side in visible.shape[-2:])
        infrared = _padded(infrared, self.multiple, (rows, columns))
        levels = [visible]
        for _ in range(visible_levels):
            levels.append(downsampled(levels[-1]))
        result = self.stages(infrared, levels[-1])[0]
        for larger, smaller in zip(levels[-2::-1], levels[:0:-1], strict=True):
            result = larger + upsampled(result - smaller)
        result = result[..., :height, :width]
        return result if self.training else result.clamp(0.0, 1.0)


def _padded(image: Tensor, multiple: int, size: tuple[int, int] | None = None) -> Tensor:
    height, width = image.shape[-2:]
    down, right = ((-height) % multiple, (-width) % multiple) if size is None else (size[0] - height, size[1] - width)
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def with_levels(network: PyramidNet, levels: int) -> PyramidNet:
    """A copy with the finest ``levels`` of the network's levels; its coarse part then works at a larger size.

    Raises ``ValueError`` where the network has fewer.
    """
    if not 0 < levels <= network.levels:
        raise ValueError(f"the network has {network.levels} levels, not {levels} or more")
    made = PyramidNet(network.channels, levels, len(network.encoder), len(network.decoder))
    maps = 3 * CELL * CELL
    rows = [*range(maps + levels), *range(maps + network.levels, maps + network.levels + levels)]
    state = network.state_dict()
    state |= {name: state[name][rows] for name in ("head.weight", "head.bias")}
    made.load_state_dict(state | {"sharpness": state["sharpness"][:levels]})
    return made.train(network.training)
