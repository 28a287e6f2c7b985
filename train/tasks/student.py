"""Networks with a teacher, the students and ``mfe``: its images, fusion loss, ranks, targets, calm, a detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.train.configs.student import StudentConfig
from fusepipe.train.data.crops import Batch, as_input
from fusepipe.train.data.pairs import Pair
from fusepipe.train.data.teacher_crops import DistillationCrops
from fusepipe.train.data.teacher_pairs import DistillationPair, Teacher
from fusepipe.train.losses.fusion import agreement_loss, fusion_loss
from fusepipe.train.losses.ranking import ranking_loss
from fusepipe.train.losses.targets import target_loss
from fusepipe.train.losses.temporal_consistency import SecondView, temporal_consistency
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.networks.pyramid import PyramidNet
from fusepipe.train.tasks.base import GeneratorOnly, Loss, StepRandom, mean_loss
from fusepipe.train.tasks.detection import DetectionTerm
from fusepipe.train.weights import FIRST_STAGES, MFE, STUDENTS, initial_student, load_mfe, student_form

_LEAK = 0.1  # share of the levels outside [0, 1] that the fusion loss sees: its gradient does not vanish there


def new_student(config: StudentConfig, *, start: bool) -> PyramidNet | MfeNet:
    """The network at its first step: seeded, or with the weights of ``config.initial`` if ``start``.

    ``mfe`` always has these. Raises :class:`UsageError` where a student's are of another form and
    :class:`EngineError` where they are of another network.
    """
    torch.manual_seed(config.seed)
    if config.model == MFE:
        return load_mfe(initial_path(config.initial)).train()
    network = PyramidNet(config.channels, config.levels, config.encoder_layers, config.decoder_layers)
    if config.initial and start:
        return initial_student(initial_path(config.initial), student_form(network))
    return network


def initial_path(initial: str) -> Path:
    """The file of a shipped network or of a first stage's weights by its name, else the path as given."""
    if initial in FIRST_STAGES:
        return Path(str(files("fusepipe.train") / "initial" / f"{initial}.safetensors"))
    if initial in (*STUDENTS, MFE):
        return Path(str(files("fusepipe.engines") / "weights" / f"{initial}.safetensors"))
    return Path(initial)


class StudentTask(GeneratorOnly):
    """Crops of distillation pairs held in memory; every ``temporal_every`` steps a batch is fused a second time.

    ``detection`` adds its term every ``detection.every`` steps, from the share ``detection.start`` of the run on; it
    calls the generator on images of its own, so that a student trains in one process.
    """

    def __init__(
        self,
        config: StudentConfig,
        network: PyramidNet | MfeNet,
        train: Sequence[DistillationPair],
        validation: Sequence[Pair],
        detection: DetectionTerm | None = None,
        rivals: Sequence[Teacher] = (),
    ) -> None:
        self._rivals = rivals
        self._config, self._validation, self._weights = config, validation, config.losses.weights()
        self._crops = DistillationCrops(
            train,
            config.sets,
            config.forms.model_dump(),
            batch=config.batch,
            crop_px=config.crop_px,
            sensors=config.sensors,
            seed=config.seed,
        )
        self._detection = detection
        self.generator = network

    def batches(self, first: int, steps: int, *, rank: int, world: int) -> AbstractContextManager[Iterator[Batch]]:
        return self._crops.batches(first, steps)

    def generate(self, generator: nn.Module, batch: Batch, random: StepRandom) -> Tensor:
        fused: Tensor = generator(*batch[:2])
        view = self._view(batch, random)
        if view is None:
            return fused
        return torch.cat((fused, generator(*view.seen(*batch[:2]))))

    def generator_loss(self, made: Tensor, critic: nn.Module | None, batch: Batch, random: StepRandom) -> Loss:
        config, part = self._config, random.step / self._config.steps
        fused = made[: len(batch[0])]
        loss = self._image_loss(fused, batch, part)
        total, terms = loss.total, loss.terms
        view = self._view(batch, random)
        if view is not None:
            terms["flicker"], terms["luminance"] = temporal_consistency(
                batch[0], batch[1], fused, made[len(fused) :], view
            )
            total = total + config.temporal_consistency.flicker * terms["flicker"]
            total = total + config.temporal_consistency.luminance * terms["luminance"]
        detection = config.detection
        if self._detection is not None and part >= detection.start and random.step % detection.every == 0:
            terms["detection"] = self._detection.loss(self.generator, random.step)
            total = total + detection.weight * terms["detection"]
        return Loss(total, terms)

    def _image_loss(self, fused: Tensor, batch: Batch, part: float) -> Loss:
        """The terms on a fused batch, after this part of the run."""
        config, infrared, visible = self._config, batch[2], batch[3]
        inside = fused.clamp(0, 1)
        leaking = inside + _LEAK * (fused - inside)
        fusion, terms = fusion_loss(leaking, infrared, visible, self._weights)
        terms["teacher"], terms["overflow"] = F.l1_loss(fused, batch[4]), F.l1_loss(fused, inside)
        total = config.teacher.at(part) * terms["teacher"] + config.fusion.at(part) * fusion
        total = total + config.overflow * terms["overflow"]
        if config.agreement:
            terms["agreement"] = agreement_loss(inside, infrared, visible)
            total = total + config.agreement * terms["agreement"]
        if config.ranking:
            rivals = (
                (infrared + visible) / 2,
                torch.maximum(infrared, visible),
                batch[4],
                *self._images_of_rivals(batch),
            )
            terms["ranking"] = ranking_loss(leaking, infrared, visible, rivals)
            total = total + config.ranking * terms["ranking"]
        if config.target:
            terms["target"] = target_loss(fused, infrared, visible)
            total = total + config.target * terms["target"]
        return Loss(total, terms)

    def _images_of_rivals(self, batch: Batch) -> Iterator[Tensor]:
        """What each rival makes of the crops, N x 1 x C x C in [0, 1]."""
        infrared, visible = ((255 * source[:, 0]).round().byte().cpu().numpy() for source in batch[2:4])
        for rival in self._rivals:
            fused = [rival.fuse(*pair) for pair in zip(infrared, visible, strict=True)]
            yield torch.from_numpy(np.stack(fused)).to(batch[2].device)[:, None].float() / 255

    def _view(self, batch: Batch, random: StepRandom) -> SecondView | None:
        weights = self._config.temporal_consistency
        if not (weights.flicker or weights.luminance) or random.step % self._config.temporal_every:
            return None
        return SecondView.at(batch[0], random.seed)

    def validate(self, generator: nn.Module, device: torch.device) -> Loss:
        def loss(pair: Pair) -> Loss:
            infrared, visible = (as_input(image).to(device) for image in (pair.infrared, pair.visible))
            return Loss(*fusion_loss(generator(infrared, visible), infrared, visible, self._weights))

        return mean_loss(map(loss, self._validation))

    def preview(self, generator: nn.Module, device: torch.device) -> Tensor | None:
        return None
