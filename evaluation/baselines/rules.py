"""The classical methods every result is compared with, as fusers.

``mean``, ``max`` and ``pyramid`` are rules for video; ``cbf``, ``gtf`` and ``jsrsd`` are the classical
methods of the paper's comparison, far from real time. None needs weights or an engine, so that they also
run where no network can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FunctionFuser, Fuser, FuserInfo
from fusepipe.core.suggest import did_you_mean
from fusepipe.evaluation.baselines.cbf import cbf
from fusepipe.evaluation.baselines.gtf import gtf
from fusepipe.evaluation.baselines.jsrsd import jsrsd

Signed = NDArray[np.int16]

PYRAMID_LEVELS = 5


def mean(infrared: Luma8, visible: Luma8) -> Luma8:
    """(a + b + 1) // 2 of HxW uint8 images: the mean, halves rounded up."""
    # the two's common bits plus half of the others, without leaving uint8
    return (infrared | visible) - ((infrared ^ visible) >> 1)


def maximum(infrared: Luma8, visible: Luma8) -> Luma8:
    """The brighter of HxW uint8 images, pixel by pixel."""
    return np.maximum(infrared, visible)


def pyramid(infrared: Luma8, visible: Luma8) -> Luma8:
    """Laplacian pyramid fusion of HxW uint8 images: the stronger detail, the mean of the base.

    Five levels, or as often as the shorter side can be halved; images of any size down to 1x1.
    Whole numbers throughout, so that decomposing loses nothing: identical images come back exactly.
    Source: Burt, Adelson, "The Laplacian pyramid as a compact image code", IEEE Trans. Communications
    31(4), 1983; fusion by the largest absolute coefficient: Burt, Kolczynski, ICCV 1993.
    """
    levels = min(PYRAMID_LEVELS, min(infrared.shape).bit_length() - 1)
    details: list[Signed] = []
    a: Signed = infrared.astype(np.int16)
    b: Signed = visible.astype(np.int16)
    for _ in range(levels):
        size = (a.shape[1], a.shape[0])
        # a decomposition is linear but for rounding, which each source gets on its own
        below_a, below_b = cv2.pyrDown(a), cv2.pyrDown(b)
        details.append(_stronger(a - cv2.pyrUp(below_a, dstsize=size), b - cv2.pyrUp(below_b, dstsize=size)))
        a, b = below_a, below_b
    fused: Signed = (a + b + 1) >> 1
    for detail in reversed(details):
        fused = cv2.pyrUp(fused, dstsize=(detail.shape[1], detail.shape[0])) + detail
    return np.clip(fused, 0, 255).astype(np.uint8)


def _stronger(a: Signed, b: Signed) -> Signed:
    """The one of larger absolute value; of equal ones the positive, whichever source it is from."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    return np.where(high + low >= 0, high, low)


# model -> (backend, function)
_RULES: Mapping[str, tuple[str, Callable[[Luma8, Luma8], Luma8]]] = {
    "mean": ("numpy", mean),
    "max": ("numpy", maximum),
    "pyramid": ("opencv", pyramid),
    "cbf": ("numpy", cbf),
    "gtf": ("numpy", gtf),
    "jsrsd": ("numpy", jsrsd),
}


def load_baseline(model: str, backend: str = "auto", precision: str = "auto", engine: str | None = None) -> Fuser:
    """The fuser of a classical rule by name: ``mean``, ``max``, ``pyramid``, ``cbf``, ``gtf`` or ``jsrsd``.

    A rule has one implementation, so that ``backend`` is ``auto`` or the rule's own, ``precision``
    ``auto`` or ``uint8`` and ``engine`` ``None``. Raises :class:`UsageError` for anything else.
    """
    if model not in _RULES:
        raise UsageError(f"there is no baseline {model!r}: {did_you_mean(model, _RULES)}")
    own_backend, function = _RULES[model]
    if backend not in ("auto", own_backend):
        raise UsageError(f"the model {model!r} is a rule without a network: {backend = } does not apply; leave it out")
    if precision not in ("auto", "uint8"):
        raise UsageError(f"the model {model!r} is a rule on 8-bit pixels: {precision = } does not apply; leave it out")
    if engine is not None:
        raise UsageError(f"the model {model!r} is a rule without an engine: {engine = } does not apply; leave it out")
    info = FuserInfo(model=model, backend=own_backend, precision="uint8", reason="the rule's only implementation")
    return FunctionFuser(info, function)
