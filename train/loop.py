"""The loop that trains the stages of ``mfe``: a generator and maybe its adversary, in alternation.

Seeded; resumable to the bit on one CPU with equally many threads; stopped cleanly between two steps;
one process or several, which see the same losses as one with the same global batch.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.train.data.crops import Batch, batches
from fusepipe.train.processes import Processes, module_of
from fusepipe.train.run_config import RunConfig
from fusepipe.train.snapshots import Snapshots
from fusepipe.train.stages import Loss, Stage
from fusepipe.train.trainer import one_cycle

_LOG_EVERY = 10
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Report = Callable[[int, float], None]


@dataclass(slots=True)
class Progress:
    """How far a run is: steps done, the lowest validation loss and its step, validations since."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    without_better: int = 0


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """What convolutions compute in; raises :class:`UsageError` for fp16 on a CPU, which torch cannot train in."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name == "fp16" and device.type == "cpu":
        raise UsageError("precision: fp16 trains on GPUs only: take auto, fp32 or bf16")
    return _HALVES.get(name, torch.float32)


class Loop:
    """One run of one stage in one folder, which gets checkpoints and TensorBoard's event files.

    ``identity`` says what else makes this run (data, start), beside the configuration, so that it is
    not resumed as another.
    """

    def __init__(
        self,
        stage: Stage,
        config: RunConfig,
        out: Path,
        processes: Processes,
        *,
        resume: bool = False,
        identity: dict[str, Any] | None = None,
    ) -> None:
        if config.batch % processes.world:
            raise UsageError(f"batch: {config.batch} crops cannot be shared by {processes.world} processes evenly")
        self._stage, self._config, self._out, self._processes = stage, config, out, processes
        self._device = processes.device
        half = choose_precision(config.precision, self._device)
        self._half = half if half != torch.float32 else None
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=half == torch.float16)
        # channels_last: a quarter faster on CPUs
        self._generator = stage.generator.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._critic = stage.critic.to(self._device) if stage.critic is not None else None
        self._average = copy.deepcopy(self._generator).eval().requires_grad_(False)
        self._optimisers = {"generator": _adam(self._generator, config.learning_rate)}
        if self._critic is not None:
            self._optimisers["critic"] = _adam(self._critic, stage.critic_learning_rate)
        self._peaks = {"generator": config.learning_rate, "critic": stage.critic_learning_rate}
        self.progress = Progress()
        self._snapshots = Snapshots(out, {**config.fixed(), **(identity or {})})
        if processes.first:
            self._snapshots.begin(resume=resume)
        processes.mean(torch.zeros(1, device=self._device))  # the others wait until the folder is there
        self._kept: nn.Module = copy.deepcopy(self._average)
        if resume and self._snapshots.latest is not None:
            self._load()
        self._shared = {
            "generator": processes.share_gradients(self._generator),
            "critic": processes.share_gradients(self._critic) if self._critic is not None else None,
        }

    @property
    def result(self) -> nn.Module:
        """The averaged weights that validated best so far."""
        return self._kept

    def run(self, stop: threading.Event, report: Report = lambda step, loss: None) -> bool:
        """Trains to the end (true) or until ``stop`` is set (false); either way a checkpoint is left.

        ``report(step, loss)`` is called after each step. The end is the last step, or an earlier one
        where ``patience`` validations brought nothing better.
        """
        config, progress, processes = self._config, self.progress, self._processes
        board = SummaryWriter(str(self._out), purge_step=progress.step) if processes.first else None
        crops = batches(
            self._stage.crops,
            progress.step,
            config.steps,
            config.batch,
            workers=config.workers,
            rank=processes.rank,
            world=processes.world,
        )
        try:
            with crops as fetched:
                while not self.finished and not processes.any(stop.is_set()):
                    try:
                        batch = next(fetched)
                    except FusepipeError:  # an image, or who reads it: what was trained so far is kept
                        self._save()
                        raise
                    losses = self._step(progress.step, batch)
                    progress.step += 1
                    report(progress.step, losses["generator"][0])
                    if board is not None and progress.step % _LOG_EVERY == 0:
                        _log(board, losses, progress.step)
                    if progress.step % config.validate_every == 0 or progress.step == config.steps:
                        self._validate(board)
                        self._save()
            if not self.finished:
                self._save()
        finally:
            if board is not None:
                board.close()
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        config, progress = self._config, self.progress
        patient = not config.patience or progress.without_better < config.patience
        return progress.step >= config.steps or not patient

    def _step(self, step: int, batch: Batch) -> dict[str, tuple[float, dict[str, float]]]:
        """One step of the adversary, if there is one, and of the generator; their losses over all processes."""
        stage, critic = self._stage, self._shared["critic"]
        batch = tuple(part.to(self._device, non_blocking=True) for part in batch)
        for name, optimiser in self._optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = one_cycle(step, self._config.steps, self._peaks[name])
        losses: dict[str, Loss] = {}
        generator = self._shared["generator"]
        assert generator is not None
        with self._autocast():
            made = stage.make(generator, batch, self._uniform(step))
        made = made.float()
        if critic is not None:
            critic.requires_grad_(True)
            with self._autocast():
                losses["critic"] = stage.critic_loss(made.detach(), critic, batch)
            self._descend("critic", losses["critic"], step)
            # the generator's step needs its judgement, not its gradients
            critic = module_of(critic).requires_grad_(False)
        losses["generator"] = stage.generator_loss(made, critic, batch, self._uniform(step))
        self._descend("generator", losses["generator"], step)
        self._scaler.update()
        self._follow(step)
        return self._agreed(losses)

    def _descend(self, name: str, loss: Loss, step: int) -> None:
        optimiser = self._optimisers[name]
        if not math.isfinite(float(loss.total.item())):
            raise EngineError(f"the loss of the {name} is not finite at step {step}: lower learning_rate, start anew")
        optimiser.zero_grad()
        self._scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
        if self._config.clip_norm:
            self._scaler.unscale_(optimiser)
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._config.clip_norm)
        self._scaler.step(optimiser)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, dtype=self._half) if self._half is not None else nullcontext()

    def _uniform(self, step: int) -> Callable[[int], Tensor]:
        """The random numbers of a step: drawn for the whole batch, so that they do not depend on the processes."""
        source = torch.Generator().manual_seed(1_000_003 * self._config.seed + step)
        batch, processes = self._config.batch, self._processes
        own = slice(processes.rank * batch // processes.world, (processes.rank + 1) * batch // processes.world)
        return lambda columns: torch.rand(batch, columns, generator=source)[own].to(self._device)

    def _follow(self, step: int) -> None:
        """Moves the average; it may not remember the random start for long, so its decay grows with the step."""
        decay = min(self._config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self._average.parameters(), self._generator.parameters(), strict=True):
                if parameter.requires_grad:
                    mean.lerp_(parameter, 1 - decay)

    def _agreed(self, losses: dict[str, Loss]) -> dict[str, tuple[float, dict[str, float]]]:
        """The losses as numbers, means over the processes."""
        names = {name: list(loss.terms) for name, loss in losses.items()}
        values = [v.detach() for loss in losses.values() for v in (loss.total, *loss.terms.values())]
        numbers = iter(self._processes.mean(torch.stack(values)).tolist())
        return {name: (next(numbers), {term: next(numbers) for term in terms}) for name, terms in names.items()}

    def _validate(self, board: SummaryWriter | None) -> None:
        """Scores the averaged weights and keeps the best; the first process does it for all."""
        progress = self.progress
        found = torch.zeros(1, dtype=torch.float64, device=self._device)
        if board is not None:
            with torch.no_grad():
                loss = self._stage.validate(self._average, self._device)
                board.add_image("validation/pictures", self._stage.pictures(self._average, self._device), progress.step)
            found += loss.total.double()
            board.add_scalar("validation/loss", loss.total.item(), progress.step)
            for name, value in loss.terms.items():
                board.add_scalar(f"validation/{name}", value.item(), progress.step)
        total = float(self._processes.mean(found).item()) * self._processes.world
        if not math.isfinite(total):
            raise EngineError(
                f"the validation loss is {total} at step {progress.step}: lower learning_rate, start anew"
            )
        progress.without_better += 1
        if total < progress.best_loss:
            progress.best_loss, progress.best_step, progress.without_better = total, progress.step, 0
            self._kept.load_state_dict(self._average.state_dict())

    def _networks(self) -> dict[str, nn.Module]:
        networks = {"generator": self._generator, "average": self._average, "kept": self._kept}
        return networks | ({"critic": self._critic} if self._critic is not None else {})

    def _save(self) -> None:
        if self._processes.first:
            facts = {"progress": asdict(self.progress), "scaler": self._scaler.state_dict()}
            self._snapshots.save(self.progress.step, self._networks(), self._optimisers, facts)

    def _load(self) -> None:
        facts = self._snapshots.load(self._networks(), self._optimisers)
        self.progress = Progress(**facts["progress"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(facts["scaler"])


def _adam(network: nn.Module, rate: float) -> torch.optim.Adam:
    # no weight decay: it starves the deep levels of a network with skips
    return torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=rate)


def _log(board: SummaryWriter, losses: dict[str, tuple[float, dict[str, float]]], step: int) -> None:
    for name, (total, terms) in losses.items():
        group = "train" if name == "generator" else name
        board.add_scalar(f"{group}/loss", total, step)
        for term, value in terms.items():
            board.add_scalar(f"{group}/{term}", value, step)
