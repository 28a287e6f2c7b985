"""The parts of a network: output shapes, parameters, multiply-accumulates.

Multiply-accumulates are counted in one forward pass on the ``meta`` device, in every convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusepipe.train.configs.mfe import NetworkParts
from fusepipe.train.configs.student import load_student_config
from fusepipe.train.networks.pyramid import PyramidNet


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a network: output shape (1 x C x H x W), calls per pair, parameters, multiply-accumulates."""

    model: str
    name: str
    shape: tuple[int, ...]
    calls: int
    parameters: int
    macs_per_px: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def _counted(network: nn.Module) -> Iterator[dict[nn.Module, int]]:
    """Multiply-accumulates of each convolution while the context lasts."""
    counts: dict[nn.Module, int] = {}

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        counts[layer] = counts.get(layer, 0) + layer.weight[0].numel() * output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def network_parts(
    model: str, network: nn.Module, parts: Mapping[str, nn.Module], height: int, width: int
) -> list[Part]:
    """The parts of a network that fuses a pair of height x width, and the whole network as the last one."""
    last: dict[nn.Module, tuple[tuple[int, ...], int]] = {}

    def note(part: nn.Module, inputs: object, output: Tensor | list[Tensor]) -> None:
        # a path returns its layers as a list
        whole = output if isinstance(output, Tensor) else torch.cat(output, dim=1)
        last[part] = tuple(whole.shape), last.get(part, ((), 0))[1] + 1

    hooks = [part.register_forward_hook(note) for part in {**parts, "": network}.values()]
    image = torch.zeros(1, 1, height, width, device="meta")  # shapes only, nothing is computed
    try:
        with torch.no_grad(), _counted(network) as counts:
            network.eval()(image, image)
    finally:
        for hook in hooks:
            hook.remove()

    def row(name: str, part: nn.Module) -> Part:
        macs = sum(count for layer, count in counts.items() if any(layer is m for m in part.modules()))
        parameters = sum(p.numel() for p in part.parameters())
        return Part(model, name, *last[part], parameters, macs / (height * width))

    return [*(row(name, part) for name, part in parts.items()), row("whole", network)]


def describe_models(parts: NetworkParts, height: int, width: int) -> list[Part]:
    """``mfe`` with these parts, and the students as they ship."""
    with torch.device("meta"):
        mfe = parts.build()
        students = {
            config.model: PyramidNet(config.channels, config.levels, config.encoder_layers, config.decoder_layers)
            for config in map(load_student_config, ("default", "stream-hq"))
        }
    named: dict[str, nn.Module] = {"stem": mfe.extractor.stem}
    named |= {
        f"path, dilation {path.layers[0].dilation[0]}": path  # type: ignore[index, union-attr]
        for path in mfe.extractor.paths
    }
    named["extractor"] = mfe.extractor
    if mfe.attention is not None:
        named["attention"] = mfe.attention
    named["reconstruction"] = mfe.reconstruction
    described = network_parts("mfe", mfe, named, height, width)
    for model, student in students.items():
        described += network_parts(model, student, _layers(student), height, width)
    return described


def _layers(student: PyramidNet) -> dict[str, nn.Module]:
    """The layers of a student by name; the encoder's are called for each source."""
    named: dict[str, nn.Module] = {f"encoder {n}": layer for n, layer in enumerate(student.encoder, 1)}
    named["gate"] = student.gate
    named |= {f"decoder {n}": layer for n, layer in enumerate(student.decoder, 1)}
    return named | {"head": student.head}


def parts_table(parts: list[Part]) -> str:
    """The parts as text, one a line."""
    lines = [f"{'':9} {'part':19} {'output':>17} {'calls':>5} {'parameters':>10} {'MAC/px':>11}"]
    for part in parts:
        shape = "x".join(str(side) for side in part.shape)
        cost = f"{part.parameters:>10,} {part.macs_per_px:>11,.1f}"
        lines.append(f"{part.model:9} {part.name:19} {shape:>17} {part.calls:>5} {cost}")
    return "\n".join(lines)
