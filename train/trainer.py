"""The training loop: seeded, resumable to the bit on one CPU, stopped cleanly between two steps."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.train.checkpoint import (
    CHECKPOINT,
    Progress,
    form,
    load_checkpoint,
    load_weights,
    run_folder,
    save_checkpoint,
    save_weights,
)
from fusepipe.train.config import StudentConfig
from fusepipe.train.data.pairs import CropSampler, Pair
from fusepipe.train.losses.distillation import distillation_loss
from fusepipe.train.losses.fusion import fusion_loss
from fusepipe.train.losses.steadiness import SecondLook, steadiness
from fusepipe.train.networks.branches import branch, folded
from fusepipe.train.networks.student import StudentNet
from fusepipe.train.teacher import Teacher

BEST = "best.safetensors"
"""The weights that validated best, as trained."""
EARLIER = "earlier.safetensors"
"""Those of an earlier step, which ``finish`` averages in."""
_LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to; ``finished`` is false when it was stopped before its last step."""

    progress: Progress
    finished: bool


def one_cycle(step: int, steps: int, peak: float) -> float:
    """The rate of a step: cosine from peak/25 up to the peak at 30 %, cosine down to peak/250,000.

    (Smith and Topin 2019, as ``torch.optim.lr_scheduler.OneCycleLR``; a pure function of the step, so
    that nothing of it needs saving.)
    """

    def cosine(start: float, end: float, part: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    turn = 0.3 * steps - 1
    if step <= turn:
        return cosine(peak / 25, peak, step / turn)
    return cosine(peak, peak / 250_000, (step - turn) / max(steps - 1 - turn, 1e-9))


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; raises :class:`UsageError` for what torch does not know."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"cannot train on {name!r}: {str(error).splitlines()[0]}; try --device cpu") from error
    return device


class StudentTrainer:
    """One training run in one folder.

    ``out`` holds the checkpoint, the weights that validated best, and TensorBoard's event files.
    """

    def __init__(
        self,
        config: StudentConfig,
        train: Sequence[Pair],
        validation: Sequence[Pair],
        out: Path,
        *,
        resume: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self._config, self._validation, self._out = config, validation, out
        self._device = device or torch.device("cpu")
        checkpoint = run_folder(out, resume=resume)
        self._sampler = CropSampler(train, config.batch, config.crop_px, config.augmentation, config.seed)
        self._weights = config.losses.weights()
        torch.manual_seed(config.seed)
        network = StudentNet(config.channels, config.encoder_layers, config.decoder_layers)
        if config.start and not resume:
            start = load_weights(Path(config.start))
            if form(start) != form(network):
                raise UsageError(f"start: {config.start} has {form(start)}, the configuration asks for {form(network)}")
            network.load_state_dict(start.state_dict())
        if config.branches:
            branch(network)
        self._teacher = Teacher(config.teacher, self._device) if config.distillation else None
        # channels_last: 20 % faster on CPUs
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = copy.deepcopy(self._network).eval().requires_grad_(False)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=config.learning_rate)
        self.progress = Progress()
        if resume:
            self.progress = load_checkpoint(checkpoint, self._network, self._average, self._optimiser, config)

    def run(self, stop: threading.Event, report: Callable[[int, float], None] = lambda step, loss: None) -> Result:
        """Trains to the last step or until ``stop`` is set; either way a resumable checkpoint is left.

        ``report(step, loss)`` is called after each step.
        """
        config, progress = self._config, self.progress
        with SummaryWriter(str(self._out), purge_step=progress.step) as board:
            while progress.step < config.steps and not stop.is_set():
                loss, terms = self._step(progress.step)
                progress.step += 1
                report(progress.step, loss)
                if progress.step % _LOG_EVERY == 0:
                    board.add_scalar("train/loss", loss, progress.step)
                    for name, value in terms.items():
                        board.add_scalar(f"train/{name}", value.item(), progress.step)
                if config.finish.earlier and progress.step == config.finish.earlier_step:
                    self._keep(EARLIER)
                if progress.step % config.validate_every == 0 or progress.step == config.steps:
                    self._validate(board)
                    self._save()
            if progress.step < config.steps:
                self._save()
        return Result(progress, progress.step >= config.steps)

    def _step(self, step: int) -> tuple[float, dict[str, Tensor]]:
        *seen, infrared, visible = (crops.to(self._device) for crops in self._sampler.batch(step))
        rate = one_cycle(step, self._config.steps, self._config.learning_rate)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        fused = self._network(*seen)
        loss, terms = fusion_loss(fused, infrared, visible, self._weights)
        if self._teacher:
            terms["distillation"] = distillation_loss(fused, self._teacher(infrared, visible))
            loss = loss + self._config.distillation * terms["distillation"]
        if self._config.steadiness.flicker or self._config.steadiness.luminance:
            loss = loss + self._steadiness(step, (seen[0], seen[1]), fused, terms)
        value = float(loss.item())
        if not math.isfinite(value):
            raise EngineError(f"the loss is {value} at step {step}: lower learning_rate and start anew")
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._config.clip_norm)
        self._optimiser.step()
        # The average may not remember the random start for long: its decay grows with the step.
        decay = min(self._config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(self._average.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(parameter, 1 - decay)
        return value, terms

    def _steadiness(self, step: int, seen: tuple[Tensor, Tensor], fused: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """The weighted terms of a second look at a quarter of the batch; ``terms`` gets them by name."""
        weights, some = self._config.steadiness, slice(-(-len(fused) // 4))
        infrared, visible = (band[some] for band in seen)
        look = SecondLook.at(infrared, 1_000_003 * self._config.seed + step)
        second = self._network(*look.seen(infrared, visible))
        found = steadiness(infrared, visible, fused[some], second, look)
        terms["flicker"], terms["luminance"] = found
        return weights.flicker * found[0] + weights.luminance * found[1]

    def _validate(self, board: SummaryWriter) -> None:
        """Loss of the averaged weights on whole validation images; keeps the best."""
        progress, total = self.progress, 0.0
        sums: dict[str, float] = {}
        with torch.no_grad():
            for pair in self._validation:
                infrared, visible = (
                    torch.from_numpy(image)[None, None].to(self._device).float() / 255.0
                    for image in (pair.infrared, pair.visible)
                )
                fused = self._average(infrared, visible)
                loss, terms = fusion_loss(fused, infrared, visible, self._weights)
                total += float(loss.item()) / len(self._validation)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(value.item()) / len(self._validation)
        board.add_scalar("validation/loss", total, progress.step)
        for name, mean in sums.items():
            board.add_scalar(f"validation/{name}", mean, progress.step)
        if not math.isfinite(total):
            raise EngineError(
                f"the validation loss is {total} at step {progress.step}: lower learning_rate and start anew"
            )
        if total < progress.best_loss:
            progress.best_loss, progress.best_step = total, progress.step
            self._keep(BEST)

    def _keep(self, name: str) -> None:
        """Writes the averaged weights as they are now, in the plain network's form."""
        step, seed = str(self.progress.step), str(self._config.seed)
        metadata = {"model": self._config.model, "steps": step, "seed": seed}
        save_weights(self._out / name, folded(self._average), metadata)

    def _save(self) -> None:
        save_checkpoint(
            self._out / CHECKPOINT, self._network, self._average, self._optimiser, self.progress, self._config
        )
