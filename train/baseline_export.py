"""The trained baselines as ONNX graphs of uint8 luma, any size from 1x1, weights stored in fp16."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fusepipe.train.export import write_graph
from fusepipe.train.networks.densefuse import DenseFuseNet
from fusepipe.train.networks.fusiongan import FusionGanNet


def deployable(generator: nn.Module) -> nn.Module:
    """A generator as it runs: in evaluation mode, batch norms folded into the convolutions."""
    return generator.folded() if isinstance(generator, FusionGanNet) else generator.eval()


def export_baseline(name: str, generator: nn.Module, out: Path) -> list[Path]:
    """Writes ``out/NAME.onnx`` (and ``NAME-l1.onnx`` of DenseFuse: the l1-norm rule); returns the paths.

    See :func:`fusepipe.train.export.write_graph` for inputs and outputs.
    """
    networks = {name: deployable(generator.cpu())}
    if isinstance(generator, DenseFuseNet):
        by_norm = DenseFuseNet(l1_norm=True)
        by_norm.load_state_dict(generator.state_dict())
        networks[f"{name}-l1"] = by_norm.eval()
    paths = []
    for model, network in networks.items():
        path = out / f"{model}.onnx"
        write_graph(network, path, {"model": model}, half=True)
        paths.append(path)
    return paths
