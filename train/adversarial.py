"""The loop that trains the learned baselines: a generator and any number of adversaries in alternation.

Seeded, resumable to the bit on one CPU with equally many threads, stopped cleanly between two steps.
An auto-encoder is the case without adversaries.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.train.baseline_config import BaselineConfig
from fusepipe.train.checkpoint import CHECKPOINT, read_tensors, run_folder, write_tensors
from fusepipe.train.data.augmentation import Augmentation
from fusepipe.train.data.pairs import CropSampler, Pair
from fusepipe.train.recipes import Recipe, Terms
from fusepipe.train.trainer import one_cycle

_LOG_EVERY = 10
_VALIDATION_BATCHES = 4
_FORMAT = "fusepipe-baseline-1"
# The papers change nothing in a patch; every option of the student's augmentation is off at 0.
_FLIPS_ONLY = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0.0))


class BaselineTrainer:
    """One training run in one folder, which gets the checkpoint and TensorBoard's event files.

    The weights of the last step are the result: the rate ends near 0, and what an adversarial
    training has reached shows in no validation loss.
    """

    def __init__(
        self,
        config: BaselineConfig,
        recipe: Recipe,
        train: Sequence[Pair],
        validation: Sequence[Pair],
        out: Path,
        *,
        resume: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self._config, self._recipe, self._out = config, recipe, out
        self._device = device or torch.device("cpu")
        self._sampler = CropSampler(train, config.batch, config.crop_px, _FLIPS_ONLY, config.seed)
        self._validation = CropSampler(validation, config.batch, config.crop_px, _FLIPS_ONLY, config.seed)
        self._modules = {"generator": recipe.generator, "critics": recipe.critics}
        for module in self._modules.values():
            module.to(self._device)
        self._optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=config.learning_rate)
            for name, module in self._modules.items()
            if any(True for _ in module.parameters())
        }
        self.step = 0
        self.validation: dict[str, float] = {}
        checkpoint = run_folder(out, resume=resume)
        if resume:
            self._load(checkpoint)

    def run(self, stop: threading.Event, report: Callable[[int, float], None] = lambda step, loss: None) -> bool:
        """Trains to the last step (true) or until ``stop`` is set (false); either way a checkpoint is left.

        ``report(step, loss)`` is called after each step with the generator's loss.
        """
        config = self._config
        with SummaryWriter(str(self._out), purge_step=self.step) as board:
            while self.step < config.steps and not stop.is_set():
                terms, critic_terms = self._train_step(self.step)
                self.step += 1
                report(self.step, sum(terms.values()))
                if self.step % _LOG_EVERY == 0:
                    for name, value in terms.items():
                        board.add_scalar(f"train/{name}", value, self.step)
                    for name, value in critic_terms.items():
                        board.add_scalar(f"critic/{name}", value, self.step)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    self.validation = self._validate()
                    for name, value in self.validation.items():
                        board.add_scalar(f"validation/{name}", value, self.step)
                    self._save()
            if self.step < config.steps:
                self._save()
        return self.step >= config.steps

    def _train_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        recipe = self._recipe
        infrared, visible = (crops.to(self._device) for crops in self._sampler.batch(step)[:2])
        noise = torch.Generator().manual_seed(1_000_003 * self._config.seed + step)
        rate = one_cycle(step, self._config.steps, self._config.learning_rate)
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        made = recipe.make(infrared, visible)
        critic_terms: Terms = {}
        if "critics" in self._optimisers:
            critic_terms = recipe.critic_terms(made.detach(), infrared, visible, noise)
            self._descend("critics", critic_terms, step)
        terms = recipe.generator_terms(made, infrared, visible, noise)
        self._descend("generator", terms, step)
        return _values(terms), _values(critic_terms)

    def _descend(self, name: str, terms: Terms, step: int) -> None:
        loss = torch.stack(list(terms.values())).sum()
        if not math.isfinite(float(loss.item())):
            raise EngineError(f"the loss of the {name} is not finite at step {step}: lower learning_rate, start anew")
        # the generator's step leaves gradients in the critics too
        self._modules[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimisers[name].step()

    def _validate(self) -> dict[str, float]:
        """Mean terms of the generator on the same crops of the validation pairs each time."""
        totals: dict[str, float] = {}
        for module in self._modules.values():
            module.eval()
        with torch.no_grad():
            for number in range(_VALIDATION_BATCHES):
                infrared, visible = (crops.to(self._device) for crops in self._validation.batch(number)[:2])
                noise = torch.Generator().manual_seed(number)
                terms = self._recipe.generator_terms(self._recipe.make(infrared, visible), infrared, visible, noise)
                for name, value in _values(terms).items():
                    totals[name] = totals.get(name, 0.0) + value / _VALIDATION_BATCHES
        for module in self._modules.values():
            module.train()
        return totals

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimiser in self._optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"adam/{name}/{index}/{key}": value for key, value in state.items()}
        metadata = {
            "format": _FORMAT,
            "config": self._config.model_dump_json(),
            "step": str(self.step),
            "validation": json.dumps(self.validation),
        }
        write_tensors(self._out / CHECKPOINT, tensors, metadata)

    def _load(self, path: Path) -> None:
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != _FORMAT:
            raise EngineError(f"{path}: not a checkpoint of a baseline ({metadata.get('format') = })")
        saved, wanted = json.loads(metadata["config"]), json.loads(self._config.model_dump_json())
        different = [f"{k} was {saved.get(k)}, is {wanted.get(k)}" for k in wanted if saved.get(k) != wanted.get(k)]
        if different:
            raise UsageError(f"{path} cannot be resumed with another configuration: {'; '.join(different)}")
        for name, module in self._modules.items():
            prefix = f"{name}/"
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for name, optimiser in self._optimisers.items():
            state: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                if key.startswith(f"adam/{name}/"):
                    _, _, index, what = key.split("/")
                    state.setdefault(int(index), {})[what] = value
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        self.step, self.validation = int(metadata["step"]), json.loads(metadata["validation"])


def _values(terms: Terms) -> dict[str, float]:
    return {name: float(value.item()) for name, value in terms.items()}
