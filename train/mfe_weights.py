"""Weights of ``mfe`` as they are kept and shipped: safetensors that say which parts the network has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.train.checkpoint import read_tensors, write_tensors
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.run_config import Network

_MODEL = "mfe"


def save_mfe(path: Path, network: MfeNet, metadata: Mapping[str, str]) -> None:
    """Writes the network; ``metadata`` says where it comes from."""
    parts = {
        "dense": str(network.dense),
        "attention": str(network.attention is not None),
        "skips": str(network.skips),
        "reading": network.reading,
        "overshoot": repr(network.overshoot),
    }
    write_tensors(path, network.state_dict(), {"model": _MODEL, **parts, **metadata})


def load_mfe(path: Path) -> MfeNet:
    """The network of a file that :func:`save_mfe` wrote, in evaluation mode on the CPU."""
    tensors, metadata = read_tensors(path)
    if metadata.get("model") != _MODEL:
        raise EngineError(f"{path}: not weights of mfe ({metadata.get('model') = })")
    names = Network.model_fields.keys() & metadata.keys()  # files from before there was an overshoot do without
    network = Network.model_validate_strings({name: metadata[name] for name in names}).build()
    network.load_state_dict(tensors)
    return network.eval()


def begin_fusion(path: Path, parts: Network) -> MfeNet:
    """The network of stage 2 with the weights of ``path``, and a new attention where they have none.

    Raises :class:`UsageError` where the weights are those of a network of other parts.
    """
    start = load_mfe(path)
    if (
        start.dense != parts.dense
        or start.skips != parts.skips
        or (start.attention is not None and not parts.attention)
    ):
        raise UsageError(
            f"{path} is a network with {start.dense = }, {start.skips = }, attention = {start.attention is not None}, "
            f"the configuration asks for {parts!r}: begin with weights of stage 1 of the same configuration"
        )
    network = parts.build()
    # what stage 1 does not have stays as it was initialised
    network.load_state_dict(network.state_dict() | start.state_dict())
    return network
