"""Weights and resumable checkpoints as safetensors: no pickles, written by temporary file and rename.

A checkpoint is one file, so that it is always whole: the network, its moving average, Adam's two
moments and step counts, with the step, the configuration and the best validation loss as metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fusepipe.core.errors import EngineError, OutputExistsError, UsageError
from fusepipe.core.files import write_bytes
from fusepipe.train.config import StudentConfig
from fusepipe.train.networks.student import StudentNet

CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "fusepipe-student-1"
STUDENTS = ("stream", "stream-hq")


@dataclass(slots=True)
class Progress:
    """How far a run is: steps done, and the lowest validation loss with the step that had it."""

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0


def run_folder(out: Path, *, resume: bool) -> Path:
    """Makes the folder of a run and returns the path of its checkpoint.

    Raises :class:`OutputExistsError` where a run is not to be resumed, yet there is one, and
    :class:`UsageError` where there is none to resume or the folder cannot be made.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise OutputExistsError(f"{out} holds a training run already: add --resume or give another --out")
    if resume and not checkpoint.exists():
        raise UsageError(f"there is nothing to resume in {out} (no {CHECKPOINT})")
    make_folder(out)
    return checkpoint


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; raises :class:`UsageError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder} ({error.strerror}); give another --out") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file so that ``path`` is either the old file or the whole new one."""
    # not save_file: it makes files that only their owner may read
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises :class:`EngineError` when it is none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EngineError(f"{path}: cannot be read as safetensors ({error})") from error


def fingerprint(path: Path) -> str:
    """Of the tensors of a file, whatever the order in which they and the metadata were written."""
    tensors, _ = read_tensors(path)
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def require_same(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises :class:`UsageError` where a configuration (what JSON can say) is not that which made ``path``."""
    before, now = _flat(saved), _flat(wanted)
    different = [f"{key} was {before.get(key)}, is {now[key]}" for key in now if before.get(key) != now[key]]
    if different:
        raise UsageError(f"{path} cannot be resumed with another configuration: {'; '.join(different)}")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """With the keys of parts as ``part.key``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def save_weights(path: Path, network: StudentNet, metadata: Mapping[str, str]) -> None:
    """The network alone, as it is shipped; the metadata tells how wide it is and where it comes from."""
    write_tensors(path, network.state_dict(), {"model": "stream", **form(network), **metadata})


def form(network: StudentNet) -> dict[str, str]:
    """Width and depth of a student, as the metadata of its files."""
    layers = {"encoder_layers": str(len(network.encoder)), "decoder_layers": str(len(network.decoder))}
    return {"channels": str(network.channels), **layers}


def load_weights(path: Path) -> StudentNet:
    """The network of a file written by :func:`save_weights`, in evaluation mode on the CPU."""
    tensors, metadata = read_tensors(path)
    if metadata.get("model") not in STUDENTS:
        raise EngineError(f"{path}: not weights of a student network ({metadata.get('model') = })")
    # counted, not read from the metadata, which older files do not have
    layers = [name.split(".")[0] for name in tensors if name.endswith(".weight")]
    encoder, decoder = layers.count("encoder"), layers.count("decoder")
    network = StudentNet(int(metadata["channels"]), encoder, decoder)
    network.load_state_dict(tensors)
    return network.eval()


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Adam,
    progress: Progress,
    config: StudentConfig,
) -> None:
    """Everything that resuming needs."""
    tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v for k, v in state.items()}
    metadata = {
        "format": _FORMAT,
        "config": config.model_dump_json(),
        "progress": json.dumps([progress.step, progress.best_loss, progress.best_step]),
    }
    write_tensors(path, tensors, metadata)


def load_checkpoint(
    path: Path, network: nn.Module, average: nn.Module, optimiser: torch.optim.Adam, config: StudentConfig
) -> Progress:
    """Restores a run in place; raises :class:`UsageError` when it was made with another configuration."""
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise EngineError(f"{path}: not a checkpoint of this program ({metadata.get('format') = })")
    require_same(path, json.loads(metadata["config"]), config.model_dump(mode="json"))

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    network.load_state_dict(part("network."))
    average.load_state_dict(part("average."))
    state: dict[int, dict[str, Any]] = {}
    for key, value in part("adam.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    step, best_loss, best_step = json.loads(metadata["progress"])
    return Progress(int(step), float(best_loss), int(best_step))
