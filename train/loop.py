"""The training loop: a generator and, optionally, its critics, trained in alternation.

Seeded; resumable to the bit on one CPU with the same number of threads; stopped cleanly between two steps; one
process or several, which see the same losses as one with the same global batch.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.train.checkpoint import Checkpoint, make_folder, refuse_overwriting
from fusepipe.train.data.crops import Batch
from fusepipe.train.device import choose_precision
from fusepipe.train.distributed import Processes, unwrapped
from fusepipe.train.schedule import one_cycle
from fusepipe.train.tasks.base import Loss, StepRandom, Task

_LOG_EVERY = 10

Report = Callable[[int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How a task is optimised."""

    steps: int
    batch: int
    """Crops per step, over all processes."""
    learning_rate: float
    """Peak of the generator's one-cycle rate."""
    critic_learning_rate: float = 0.0
    """Peak of the critics' one-cycle rate."""
    seed: int
    validate_every: int
    """Steps between validations and checkpoints."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is validated and kept; ``None`` keeps no average."""
    keep: Literal["best", "last"] = "best"
    """Whether the result is the weights that validated best or those of the last step."""
    clip_norm: float = 0.0
    """Longer gradients are scaled down to this norm; 0 leaves them."""
    precision: str = "fp32"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``: what the networks compute in."""
    patience: int = 0
    """Validations without improvement after which the run ends early; 0 never does."""
    warm_up: float = 0.3
    """Share of the run after which the rate is at its peak."""
    second_moment_decay: float = 0.999
    """Adam's beta2 of the generator's optimiser."""
    channels_last: bool = True
    """Memory layout of the generator; a quarter faster on CPUs for most networks."""


@dataclass(slots=True)
class TrainingState:
    """State of a run: steps done, lowest validation loss and its step, validations since, the last one's terms."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    without_better: int = 0
    validation: dict[str, float] = field(default_factory=dict)


class Loop:
    """One run of a task in the folder ``out``, which gets the checkpoint and TensorBoard's event files.

    ``identity`` is what must be the same when the run is resumed. With ``resume`` the run continues from the
    checkpoint in ``out``, or starts where there is none. Raises :class:`OutputExistsError` for a run that would be
    overwritten.
    """

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        out: Path,
        processes: Processes,
        *,
        identity: Mapping[str, Any],
        resume: bool = False,
    ) -> None:
        if settings.batch % processes.world:
            raise UsageError(f"batch: {settings.batch} crops cannot be divided among {processes.world} processes")
        self._task, self._settings, self._out, self._processes = task, settings, out, processes
        self._device = processes.device
        half = choose_precision(settings.precision, self._device)
        self._half = half if half != torch.float32 else None
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=half == torch.float16)
        self._generator = task.generator.to(self._device)
        if settings.channels_last:
            self._generator = self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._critic = task.critic.to(self._device) if task.critic is not None else None
        self._average = self._copy() if settings.ema_decay is not None else None
        self._best = self._copy() if settings.keep == "best" else None
        self._optimisers = {"generator": _adam(self._generator, settings.learning_rate, settings.second_moment_decay)}
        if self._critic is not None:
            self._optimisers["critic"] = _adam(self._critic, settings.critic_learning_rate)
        self.state = TrainingState()
        self._checkpoint = Checkpoint(out, identity)
        if processes.first:
            if not resume:
                refuse_overwriting(out)
            make_folder(out)
        processes.barrier()  # until the folder exists
        if resume and self._checkpoint.path.exists():
            self._load()
        self._parallel = processes.data_parallel(self._generator)
        self._parallel_critic = processes.data_parallel(self._critic) if self._critic is not None else None

    def _copy(self) -> nn.Module:
        return copy.deepcopy(self._generator).eval().requires_grad_(False)

    @property
    def result(self) -> nn.Module:
        """The weights that validated best so far, or those of the last step; see :attr:`LoopSettings.keep`."""
        return self._best if self._best is not None else self._current

    @property
    def finished(self) -> bool:
        """Whether the last step is done, or ``patience`` validations brought no improvement."""
        settings, state = self._settings, self.state
        exhausted = settings.patience > 0 and state.without_better >= settings.patience
        return state.step >= settings.steps or exhausted

    def run(self, stop: threading.Event, report: Report = lambda step, loss: None) -> bool:
        """Trains to the end (true) or until ``stop`` is set (false); either way a checkpoint is written.

        ``report(step, loss)`` is called after each step with the generator's loss.
        """
        settings, state, processes = self._settings, self.state, self._processes
        board = SummaryWriter(str(self._out), purge_step=state.step) if processes.first else None
        batches = self._task.batches(state.step, settings.steps, rank=processes.rank, world=processes.world)
        try:
            with batches as fetched:
                while not self.finished and not processes.any(stop.is_set()):
                    try:
                        batch = next(fetched)
                    except FusepipeError:  # an unreadable image, a worker that died: keep the steps done so far
                        self._save()
                        raise
                    losses = self._step(state.step, batch)
                    state.step += 1
                    report(state.step, losses["generator"][0])
                    if board is not None and state.step % _LOG_EVERY == 0:
                        _log(board, losses, state.step)
                    if state.step % settings.validate_every == 0 or state.step == settings.steps:
                        self._validate(board)
                        self._save()
            if not self.finished:
                self._save()
        finally:
            if board is not None:
                board.close()
        return self.finished

    @property
    def _current(self) -> nn.Module:
        """The weights to validate and keep: the moving average, or the generator as it is."""
        return self._average if self._average is not None else self._generator

    def _step(self, step: int, batch: Batch) -> dict[str, tuple[float, dict[str, float]]]:
        """One step of the critics, if any, and of the generator; their losses over all processes."""
        task, critic, settings = self._task, self._parallel_critic, self._settings
        batch = tuple(part.to(self._device, non_blocking=True) for part in batch)
        random = StepRandom(
            settings.seed, step, settings.batch, self._processes.rank, self._processes.world, self._device
        )
        peaks = {"generator": settings.learning_rate, "critic": settings.critic_learning_rate}
        for name, optimiser in self._optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = one_cycle(step, settings.steps, peaks[name], settings.warm_up)
        losses: dict[str, Loss] = {}
        with self._autocast():
            made = task.generate(self._parallel, batch, random)
        made = made.float()
        if critic is not None:
            critic.requires_grad_(True)
            with self._autocast():
                losses["critic"] = task.critic_loss(made.detach(), critic, batch, random)
            self._descend("critic", losses["critic"], step)
            # the generator's step needs the critic's score, not its gradients
            critic = unwrapped(critic).requires_grad_(False)
        losses["generator"] = task.generator_loss(made, critic, batch, random)
        self._descend("generator", losses["generator"], step)
        self._scaler.update()
        self._update_average(step)
        return self._over_processes(losses)

    def _descend(self, name: str, loss: Loss, step: int) -> None:
        optimiser, value = self._optimisers[name], float(loss.total.item())
        if not math.isfinite(value):
            raise EngineError(f"the {name}'s loss is {value} at step {step}: lower learning_rate and start a new run")
        optimiser.zero_grad()
        self._scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
        if self._settings.clip_norm:
            self._scaler.unscale_(optimiser)
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm)
        self._scaler.step(optimiser)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, dtype=self._half) if self._half is not None else nullcontext()

    def _update_average(self, step: int) -> None:
        """Moves the average; its decay grows with the step, so that the random start is forgotten soon."""
        if self._average is None or self._settings.ema_decay is None:
            return
        decay = min(self._settings.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self._average.parameters(), self._generator.parameters(), strict=True):
                if parameter.requires_grad:
                    mean.lerp_(parameter, 1 - decay)

    def _over_processes(self, losses: dict[str, Loss]) -> dict[str, tuple[float, dict[str, float]]]:
        """The losses as numbers, means over the processes."""
        names = {name: list(loss.terms) for name, loss in losses.items()}
        values = [v.detach() for loss in losses.values() for v in (loss.total, *loss.terms.values())]
        numbers = iter(self._processes.mean(torch.stack(values)).tolist())
        return {name: (next(numbers), {term: next(numbers) for term in terms}) for name, terms in names.items()}

    def _validate(self, board: SummaryWriter | None) -> None:
        """Validates the current weights and keeps the best; process 0 does it for all."""
        state = self.state
        found = torch.zeros(1, dtype=torch.float64, device=self._device)
        if board is not None:
            loss, preview = self._evaluate()
            if preview is not None:
                board.add_image("validation/images", preview, state.step)
            found += loss.total.double()
            board.add_scalar("validation/loss", loss.total.item(), state.step)
            state.validation = {name: float(value.item()) for name, value in loss.terms.items()}
            for name, value in state.validation.items():
                board.add_scalar(f"validation/{name}", value, state.step)
        total = float(self._processes.mean(found).item()) * self._processes.world
        if not math.isfinite(total):
            raise EngineError(
                f"the validation loss is {total} at step {state.step}: lower learning_rate and start a new run"
            )
        state.without_better += 1
        if total < state.best_loss:
            state.best_loss, state.best_step, state.without_better = total, state.step, 0
            if self._best is not None:
                self._best.load_state_dict(self._current.state_dict())

    def _evaluate(self) -> tuple[Loss, torch.Tensor | None]:
        """Validation loss and preview of the current weights, in evaluation mode."""
        trained = [module for module in (self._generator, self._critic) if module is not None]
        for module in trained:
            module.eval()
        try:
            with torch.no_grad():
                loss = self._task.validate(self._current, self._device)
                return loss, self._task.preview(self._current, self._device)
        finally:
            for module in trained:
                module.train()

    def _networks(self) -> dict[str, nn.Module]:
        networks = {
            "generator": self._generator,
            "critic": self._critic,
            "average": self._average,
            "best": self._best,
        }
        return {name: network for name, network in networks.items() if network is not None}

    def _save(self) -> None:
        if self._processes.first:
            saved = {"progress": asdict(self.state), "scaler": self._scaler.state_dict()}
            self._checkpoint.save(self._networks(), self._optimisers, saved)

    def _load(self) -> None:
        saved = self._checkpoint.load(self._networks(), self._optimisers)
        self.state = TrainingState(**saved["progress"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(saved["scaler"])


def _adam(network: nn.Module, rate: float, second_moment_decay: float = 0.999) -> torch.optim.Adam:
    # no weight decay: it starves the deep levels of a network with skips
    trained = (p for p in network.parameters() if p.requires_grad)
    return torch.optim.Adam(trained, lr=rate, betas=(0.9, second_moment_decay))


def _log(board: SummaryWriter, losses: dict[str, tuple[float, dict[str, float]]], step: int) -> None:
    for name, (total, terms) in losses.items():
        group = "train" if name == "generator" else name
        board.add_scalar(f"{group}/loss", total, step)
        for term, value in terms.items():
            board.add_scalar(f"{group}/{term}", value, step)
