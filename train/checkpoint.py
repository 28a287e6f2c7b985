"""Resumable checkpoints: one safetensors file a run, written atomically.

The tensors are those of the networks (``network/NAME/KEY``) and of the optimisers' state
(``optimiser/NAME/INDEX/KEY``). The metadata holds, as JSON, what identifies the run and the loop's state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusepipe.core.errors import EngineError, OutputExistsError, UsageError
from fusepipe.train.tensors import read_tensors, write_tensors

CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "fusepipe-checkpoint-2"


class Checkpoint:
    """The checkpoint of the run in the folder ``out``.

    ``identity`` is what must be equal when the run is resumed (configuration, data, start): anything JSON can hold.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.path = out / CHECKPOINT
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))

    def save(
        self,
        networks: Mapping[str, nn.Module],
        optimisers: Mapping[str, torch.optim.Optimizer],
        state: Mapping[str, Any],
    ) -> None:
        """Replaces the checkpoint; ``state`` is what else resuming needs, anything JSON can hold."""
        tensors: dict[str, Tensor] = {
            f"network/{name}/{key}": value
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        tensors |= {
            f"optimiser/{name}/{index}/{key}": torch.as_tensor(value)
            for name, optimiser in optimisers.items()
            for index, moments in optimiser.state_dict()["state"].items()
            for key, value in moments.items()
        }
        metadata = {"format": _FORMAT, "identity": json.dumps(self._identity), "state": json.dumps(state)}
        write_tensors(self.path, tensors, metadata)

    def load(
        self, networks: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
    ) -> dict[str, Any]:
        """Restores networks and optimisers in place and returns the state that was saved with them.

        Raises :class:`UsageError` when the identity differs and :class:`EngineError` when the file cannot be read.
        """
        tensors, metadata = read_tensors(self.path)
        if metadata.get("format") != _FORMAT:
            raise EngineError(f"{self.path}: not a checkpoint of this version ({metadata.get('format') = })")
        require_same(self.path, json.loads(metadata["identity"]), self._identity)
        for name, network in networks.items():
            network.load_state_dict(_below(tensors, f"network/{name}/"))
        for name, optimiser in optimisers.items():
            moments: dict[int, dict[str, Any]] = {}
            for key, value in _below(tensors, f"optimiser/{name}/").items():
                index, what = key.split("/")
                moments.setdefault(int(index), {})[what] = value
            optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        state: dict[str, Any] = json.loads(metadata["state"])
        return state


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def refuse_overwriting(out: Path) -> None:
    """Raises :class:`OutputExistsError` where ``out`` holds a checkpoint already."""
    if (out / CHECKPOINT).exists():
        raise OutputExistsError(f"{out} already holds a training run: add --resume or give another --out")


def require_checkpoint(out: Path) -> None:
    """Raises :class:`UsageError` where neither ``out`` nor a folder below it holds a checkpoint."""
    if not any(out.glob(f"**/{CHECKPOINT}")):
        raise UsageError(f"nothing to resume in {out} (no {CHECKPOINT}): omit --resume, or give the folder of a run")


def require_same(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises :class:`UsageError` where a value of ``wanted`` is not the one saved at ``path``, naming the keys."""
    before, now = _flat(saved), _flat(wanted)
    different = [f"{key} was {before.get(key)}, is {now[key]}" for key in now if before.get(key) != now[key]]
    if different:
        raise UsageError(f"{path} cannot be resumed with another configuration: {'; '.join(different)}")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as ``section.key``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents; raises :class:`UsageError` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder {folder} ({error.strerror}); give another --out") from error
