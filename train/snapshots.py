"""Resumable states of a run: one folder each, with the networks and, apart, the state of the optimisers.

``checkpoints/STEP/`` is written under another name and renamed when whole, so a state is there entirely or
not at all; then the older ones go. Safetensors throughout: no pickles.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusepipe.core.errors import EngineError, OutputExistsError, UsageError
from fusepipe.train.checkpoint import make_folder, read_tensors, require_same, write_tensors

NETWORKS, OPTIMISERS = "networks.safetensors", "optimisers.safetensors"
_FORMAT = "fusepipe-run-1"
_FOLDER = "checkpoints"


class Snapshots:
    """The states of the run in the folder ``out``; ``config`` is what may not differ when it is resumed."""

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._folder = out / _FOLDER
        self._out, self._config = out, json.loads(json.dumps(config))

    @property
    def latest(self) -> Path | None:
        """The folder of the last whole state."""
        found = [path for path in self._folder.glob("*") if path.name.isdecimal()]
        return max(found, key=lambda path: int(path.name), default=None)

    def begin(self, *, resume: bool) -> None:
        """Makes the folder; raises :class:`OutputExistsError` where a run is not to be resumed, yet there is one."""
        if self.latest is not None and not resume:
            raise OutputExistsError(f"{self._out} holds a training run already: add --resume or give another --out")
        make_folder(self._folder)

    def save(
        self,
        step: int,
        networks: Mapping[str, nn.Module],
        optimisers: Mapping[str, torch.optim.Optimizer],
        facts: Mapping[str, Any],
    ) -> None:
        """Keeps everything that resuming needs, ``facts`` (what JSON can say) included."""
        metadata = {"format": _FORMAT, "config": json.dumps(self._config), "facts": json.dumps(facts)}
        tensors: dict[str, Tensor] = {
            f"{name}/{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
        }
        moments: dict[str, Tensor] = {
            f"{name}/{index}/{key}": torch.as_tensor(value)
            for name, optimiser in optimisers.items()
            for index, state in optimiser.state_dict()["state"].items()
            for key, value in state.items()
        }
        whole, partial = self._folder / f"{step:07}", self._folder / f"{step:07}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_tensors(partial / NETWORKS, tensors, metadata)
        write_tensors(partial / OPTIMISERS, moments, {"format": _FORMAT})
        if whole.exists():  # resumed and stopped again before the next step
            shutil.rmtree(whole)
        partial.rename(whole)
        for path in self._folder.iterdir():
            if path != whole:
                shutil.rmtree(path)

    def load(
        self, networks: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
    ) -> dict[str, Any]:
        """Restores the latest state in place and returns its facts.

        Raises :class:`UsageError` when it was made with another configuration, :class:`EngineError` when it
        cannot be read.
        """
        folder = self.latest
        if folder is None:
            raise UsageError(f"there is nothing to resume in {self._out}")
        tensors, metadata = read_tensors(folder / NETWORKS)
        moments, of_moments = read_tensors(folder / OPTIMISERS)
        for name, told in ((NETWORKS, metadata), (OPTIMISERS, of_moments)):
            if told.get("format") != _FORMAT:
                raise EngineError(f"{folder / name}: not a state of this program ({told.get('format') = })")
        require_same(self._out, json.loads(metadata["config"]), self._config)
        for name, network in networks.items():
            prefix = f"{name}/"
            network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for name, optimiser in optimisers.items():
            state: dict[int, dict[str, Any]] = {}
            for key, value in moments.items():
                whose, index, what = key.split("/")
                if whose == name:
                    state.setdefault(int(index), {})[what] = value
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        facts: dict[str, Any] = json.loads(metadata["facts"])
        return facts
