"""The protocol between the training loop and what it trains: tasks, losses, the randomness of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fusepipe.train.data.crops import Batch


@dataclass(frozen=True, slots=True)
class Loss:
    """The scalar that is minimised, and its terms by name for the log (scalars)."""

    total: Tensor
    terms: dict[str, Tensor]


def mean_loss(losses: Iterable[Loss]) -> Loss:
    """The mean of the totals and of each term, in float64."""
    listed = list(losses)
    terms = {name: torch.stack([loss.terms[name] for loss in listed]).double().mean() for name in listed[0].terms}
    return Loss(torch.stack([loss.total for loss in listed]).double().mean(), terms)


class StepRandom:
    """The random numbers of one step, which depend on the run's seed and the step only."""

    def __init__(self, seed: int, step: int, batch: int, rank: int, world: int, device: torch.device) -> None:
        self.step = step
        self.seed = 1_000_003 * seed + step
        self.generator = torch.Generator().manual_seed(self.seed)
        """A CPU generator that continues through the step: critic first, then generator."""
        self._batch, self._device = batch, device
        self._own = slice(rank * batch // world, (rank + 1) * batch // world)

    def uniform(self, columns: int) -> Tensor:
        """N x ``columns`` in [0, 1), one row per image of this process; every call returns the same numbers.

        Drawn for the whole batch, so that they do not depend on the number of processes.
        """
        source = torch.Generator().manual_seed(self.seed)
        return torch.rand(self._batch, columns, generator=source)[self._own].to(self._device)


class Task(Protocol):
    """A network to train: a generator and, for adversarial training, its critics.

    The loop calls ``generate``, then (with critics) ``critic_loss``, then ``generator_loss`` in each step. Batches are
    tuples of N x 1 x C x C tensors in [0, 1]; which images they hold is up to the task.
    """

    @property
    def generator(self) -> nn.Module:
        """The network that is trained and kept; parameters that require no gradient are frozen."""

    @property
    def critic(self) -> nn.Module | None:
        """The adversaries, one module; ``None`` trains the generator alone."""

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        """This process's part of the batches of the steps ``first`` to ``steps`` - 1."""

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        """The generator's images of a step; ``generator`` may be wrapped for several processes."""

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch, random: StepRandom) -> Loss:
        """``made`` is detached from the generator."""

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss: ...

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        """The mean loss over the validation images, generator and critics in evaluation mode."""

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor | None:
        """Validation images side by side for TensorBoard, 3 x H x W in [0, 1]; or none."""


class GeneratorOnly:
    """Base of tasks without critics and previews."""

    critic: nn.Module | None = None

    def critic_loss(self, made: Tensor, critic: nn.Module, batch: Batch, random: StepRandom) -> Loss:
        raise AssertionError("the loop computes no critic's loss for a task without critics")
