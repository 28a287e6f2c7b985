"""Metrics on grey-level histograms: entropy, standard deviation, mutual information."""

from __future__ import annotations

import numpy as np

from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, Variant, require_luma, require_variant


def _entropy(counts: Real) -> float:
    """Shannon entropy in nats of a histogram of any shape (0 log 0 = 0)."""
    p = counts[counts > 0] / counts.sum()
    # "+ 0.0" turns the -0.0 of a single occupied bin into 0.0
    return float(-np.sum(p * np.log(p))) + 0.0


def entropy(image: Luma8) -> float:
    """EN: Shannon entropy of the 256-bin histogram of one HxW uint8 image, bits.

    EN = -sum p log2 p. Range 0..8, higher is more spread. A constant image gives 0. Source: Roberts,
    van Aardt, Ahmed, "Assessment of image fusion procedures using entropy", J. Appl. Remote Sens. 2008.
    """
    require_luma(image=image)
    return _entropy(np.bincount(image.ravel(), minlength=256).astype(np.float64)) / float(np.log(2.0))


def standard_deviation(image: Luma8) -> float:
    """SD: population standard deviation (ddof 0) of one HxW uint8 image, grey levels.

    Range 0..127.5, higher is more contrast. A constant image gives 0. Source: Rao, "In-fibre Bragg
    grating sensors", as the fusion literature cites it.
    """
    require_luma(image=image)
    return float(np.std(image.astype(np.float64)))


def _mutual_information(a: Luma8, b: Luma8) -> float:
    """I(A;B) = H(A) + H(B) - H(A,B) in nats, from the 256x256 joint histogram."""
    codes = a.ravel().astype(np.uint16) * np.uint16(256) + b.ravel()
    joint = np.bincount(codes, minlength=65536).astype(np.float64).reshape(256, 256)
    value = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint)
    return max(value, 0.0)


def mutual_information(ir: Luma8, vis: Luma8, fused: Luma8, variant: Variant = "paper") -> float:
    """MI = I(IR;F) + I(VIS;F) of three HxW uint8 images, 256x256 joint histograms.

    ``paper`` is in bits, ``common`` in nats (the number scikit-learn's ``mutual_info_score`` gives).
    Range 0..2 H(F), higher is better; the rule ``max`` wins it without fusing well. A constant fused
    image gives 0; F = IR = VIS gives 2 H(F). Source: Qu, Zhang, Yan, "Information measure for
    performance of image fusion", Electronics Letters 38(7), 2002.
    """
    require_luma(ir=ir, vis=vis, fused=fused)
    require_variant(variant)
    nats = _mutual_information(ir, fused) + _mutual_information(vis, fused)
    return nats if variant == "common" else nats / float(np.log(2.0))
