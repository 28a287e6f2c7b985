"""The trivial rules that each win some metric: no comparison is shown without them."""

from __future__ import annotations

import numpy as np

from fusepipe.core.frames import Luma8

REFERENCES = ("mean", "max", "sum")


def sum_rule(infrared: Luma8, visible: Luma8) -> Luma8:
    """ir + vis - mean of both, rounded and clipped to 0..255, of HxW uint8 images.

    The mean is one number, that of all pixels of both images. It wins SCD with nearly 2 without being a
    fusion method: a row of tables, not a model.
    """
    total = infrared.astype(np.float64) + visible
    fused: Luma8 = np.clip(np.rint(total - total.mean() / 2.0), 0, 255).astype(np.uint8)
    return fused
