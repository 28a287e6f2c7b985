"""The students ``stream`` and ``stream-hq``: the fusion loss, a second look and, optionally, a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from fusepipe.core.errors import UsageError
from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.crops import Batch, as_input
from fusepipe.train.data.pairs import Pair
from fusepipe.train.data.sampler import CropSampler
from fusepipe.train.losses.distillation import distillation_loss
from fusepipe.train.losses.fusion import fusion_loss
from fusepipe.train.losses.steadiness import SecondLook, steadiness
from fusepipe.train.networks.branches import branch
from fusepipe.train.networks.student import StudentNet
from fusepipe.train.tasks.base import GeneratorOnly, Loss, StepRandom, mean_loss
from fusepipe.train.tasks.teacher import Teacher
from fusepipe.train.weights import load_student, student_form


def initial_student(config: StudentConfig, *, start: bool) -> StudentNet:
    """The network at its first step: seeded, with the weights of ``config.start`` if ``start``, then its branches.

    Raises :class:`UsageError` where those weights are of another form.
    """
    torch.manual_seed(config.seed)
    network = StudentNet(config.channels, config.encoder_layers, config.decoder_layers)
    if config.start and start:
        given = load_student(Path(config.start))
        has, wanted = student_form(given), student_form(network)
        if has != wanted:
            raise UsageError(f"start: {config.start} has {has}, the configuration asks for {wanted}")
        network.load_state_dict(given.state_dict())
    if config.branches:
        branch(network)
    return network


class StudentTask(GeneratorOnly):
    """Crops of pairs held in memory; with ``steadiness`` the first quarter of each batch is fused a second time."""

    def __init__(
        self,
        config: StudentConfig,
        network: StudentNet,
        train: Sequence[Pair],
        validation: Sequence[Pair],
        device: torch.device,
    ) -> None:
        self._config, self._validation, self._weights = config, validation, config.losses.weights()
        self._sampler = CropSampler(train, config.batch, config.crop_px, config.augmentation, config.seed)
        self._teacher = Teacher(config.teacher, device) if config.distillation else None
        self.generator = network

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        return self._sampler.batches(first, steps)

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        fused: Tensor = generator(*batch[:2])
        look = self._look(batch, random)
        if look is None:
            return fused
        return torch.cat((fused, generator(*look.seen(*self._quarter(batch)))))

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss:
        fused = made[: len(batch[0])]
        total, terms = fusion_loss(fused, batch[2], batch[3], self._weights)
        if self._teacher is not None:
            terms["distillation"] = distillation_loss(fused, self._teacher(batch[2], batch[3]))
            total = total + self._config.distillation * terms["distillation"]
        look = self._look(batch, random)
        if look is not None:
            infrared, visible = self._quarter(batch)
            found = steadiness(infrared, visible, fused[: len(infrared)], made[len(fused) :], look)
            terms["flicker"], terms["luminance"] = found
            weights = self._config.steadiness
            total = total + (weights.flicker * found[0] + weights.luminance * found[1])
        return Loss(total, terms)

    @staticmethod
    def _quarter(batch: Batch) -> tuple[Tensor, Tensor]:
        """Infrared and visible of the first quarter of the batch, as the network sees them."""
        count = -(-len(batch[0]) // 4)
        return batch[0][:count], batch[1][:count]

    def _look(self, batch: Batch, random: StepRandom) -> SecondLook | None:
        weights = self._config.steadiness
        if not (weights.flicker or weights.luminance):
            return None
        return SecondLook.at(self._quarter(batch)[0], random.seed)

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        def loss(pair: Pair) -> Loss:
            infrared, visible = (as_input(image).to(device) for image in (pair.infrared, pair.visible))
            return Loss(*fusion_loss(generator(infrared, visible), infrared, visible, self._weights))

        return mean_loss(map(loss, self._validation))

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor | None:
        return None
