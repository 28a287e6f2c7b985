"""What a detector finds in either source should be found in the fused image as well."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fusepipe.train.networks.detector import boxes, scores

_SURE = 0.25  # score from which an anchor of a source counts as a detection
_TOLERANCE = 0.05  # by which a score may exceed the sources' without being false
_FALSE, _BOX = 0.5, 0.2  # weights beside the lost detections
_LEAST = 1e-4


def detection_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Lost scores, false scores and moved boxes per detection; a scalar, 0 at best.

    All are outputs of the detector for the three images, N x anchors x 85. The target of an anchor is the better
    source's score and box.
    """
    with torch.no_grad():
        of_infrared, of_visible = scores(infrared), scores(visible)
        wanted = torch.maximum(of_infrared, of_visible)
        weight = wanted * (wanted > _SURE)
        in_infrared = (of_infrared.amax(dim=-1) > of_visible.amax(dim=-1))[..., None]
        box = torch.where(in_infrared, boxes(infrared), boxes(visible))
    got = scores(fused)
    lost = (weight * F.relu(torch.log(wanted + _LEAST) - torch.log(got + _LEAST))).sum()
    false = F.relu(got - wanted - _TOLERANCE).sum()
    moved = (weight.amax(dim=-1, keepdim=True) * F.smooth_l1_loss(boxes(fused), box, reduction="none")).sum()
    return (lost + _FALSE * false + _BOX * moved) / (weight.sum() + 1)
