"""The student's loss on what a detector finds: whole scenes, in grey or with the visible camera's colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fusepipe.core.errors import SourceError
from fusepipe.train.data.detector_scenes import DetectorScene
from fusepipe.train.losses.detection import detection_loss
from fusepipe.train.networks.detector import Detector, scores

_SIZE = 320, 416  # height and width of the image that the detector takes
_GREY = 114.0  # around it, as YOLOX is trained
_ANTIALIASED = 0.9  # images reduced to less than this are filtered first
_PERSON, _VEHICLE = 0.3, 0.5  # scores from which a scene is taken
_SURE_PERSON, _SURE, _UNSURE = 0.4, 2.0, 0.5  # scenes with a sure person are drawn four times as often as the others
_CROWDING = 0.7  # exponent of a set's number of scenes: its scenes share its weight, and a little more
_SMALLEST_VIEW = 0.6  # of a scene's sides
_COLOURED = 0.75  # share of images in colour
_STREAM = 5  # separates these random numbers from those of the crops


class DetectionTerm:
    """The scenes in which the detector finds something in either source, and the loss of a network on one of them.

    ``sets`` gives how often a scene is of a data set (relative). Raises :class:`SourceError` where the detector finds
    nothing anywhere.
    """

    def __init__(
        self,
        detector: Detector,
        scenes: Iterable[DetectorScene],
        sets: Mapping[str, float],
        seed: int,
        device: torch.device,
    ) -> None:
        self._detector, self._seed, self._device = detector, seed, device
        self._scenes: list[DetectorScene] = []
        weights = []
        for scene in scenes:
            person, vehicle = self._found(scene)
            if person > _PERSON or vehicle > _VEHICLE:
                self._scenes.append(scene)
                weights.append(sets.get(scene.dataset, 0.0) * (_SURE if person > _SURE_PERSON else _UNSURE))
        if not sum(weights):
            raise SourceError("the detector finds no person and no vehicle in the training images: train without it")
        count = Counter(scene.dataset for scene in self._scenes)
        shares = np.array([w / count[s.dataset] ** _CROWDING for w, s in zip(weights, self._scenes, strict=True)])
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return len(self._scenes)

    def _found(self, scene: DetectorScene) -> tuple[float, float]:
        """The best score of a person and of a vehicle in either source."""
        with torch.no_grad():
            infrared, luma, chroma = self._tensors(scene.infrared, scene.visible)
            both = (self._detector(framed(grey(infrared))), self._detector(framed(to_bgr_batch(luma, chroma))))
            person, vehicle = torch.maximum(*map(scores, both)).amax(dim=(0, 1)).tolist()
        return person, vehicle

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """The loss of the network on a part of a random scene, which depends on seed and step only; a scalar."""
        rng = np.random.default_rng((self._seed, step, _STREAM))
        scene = self._scenes[int(rng.choice(len(self._scenes), p=self._shares))]
        share = rng.uniform(_SMALLEST_VIEW, 1)
        view = tuple(_part(side, share, rng) for side in scene.infrared.shape)
        way = slice(None, None, -1 if rng.random() < 0.5 else 1)
        infrared, luma, chroma = self._tensors(scene.infrared[view][:, way], scene.visible[view][:, way])
        fused = 255 * network(infrared / 255, luma / 255)
        with torch.no_grad():
            sources = [self._detector(framed(image)) for image in (grey(infrared), to_bgr_batch(luma, chroma))]
        image = to_bgr_batch(fused, chroma) if rng.random() < _COLOURED else grey(fused)
        return detection_loss(self._detector(framed(image)), *sources)

    def _tensors(self, infrared: NDArray[np.uint8], visible: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Infrared and luma (1 x 1 x H x W) and chroma (1 x 2 x H x W), in 0..255."""
        planes = np.concatenate((infrared[None], visible.transpose(2, 0, 1))).astype(np.float32)
        tensor = torch.from_numpy(planes)[None].to(self._device)
        return tensor[:, :1], tensor[:, 1:2], tensor[:, 2:]


def _part(side: int, share: float, rng: np.random.Generator) -> slice:
    length = int(side * share)
    start = int(rng.integers(side - length + 1))
    return slice(start, start + length)


def grey(luma: Tensor) -> Tensor:
    """N x 1 x H x W luma in 0..255 as N x 3 x H x W."""
    return luma.clamp(0, 255).expand(-1, 3, -1, -1)


def to_bgr_batch(luma: Tensor, chroma: Tensor) -> Tensor:
    """Luma (N x 1 x H x W) with Cr and Cb (N x 2 x H x W) as N x 3 x H x W BGR; all in 0..255, BT.601 full range."""
    red, blue = chroma[:, :1] - 128, chroma[:, 1:] - 128
    channels = (luma + 1.773 * blue, luma - 0.714 * red - 0.344 * blue, luma + 1.403 * red)
    return torch.cat(channels, dim=1).clamp(0, 255)


def framed(images: Tensor) -> Tensor:
    """N x 3 x H x W resized to the detector's size, at the top left of a grey frame; the aspect ratio stays."""
    height, width = images.shape[2:]
    ratio = min(_SIZE[0] / height, _SIZE[1] / width)
    size = int(height * ratio), int(width * ratio)
    filtered = ratio < _ANTIALIASED
    images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=filtered)
    return F.pad(images, (0, _SIZE[1] - size[1], 0, _SIZE[0] - size[0]), value=_GREY)
