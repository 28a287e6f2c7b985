"""The image pairs that engines are calibrated and verified with: folders, or the synthetic street."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.frames import Band, Luma8
from fusepipe.engines.builder.request import LumaPair
from fusepipe.evaluation.image_sets import evenly_spaced, match, read_luma, require_one_size
from fusepipe.evaluation.metrics.fidelity import VIF_MINIMUM_PX
from fusepipe.evaluation.metrics.registry import measure
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.pipeline.sources.synthetic.truth import true_matrix

SIZE = (320, 240)
CALIBRATION_PAIRS, VERIFICATION_PAIRS = 32, 4
METRICS = ("MI", "CC", "VIF", "Qabf", "SCD", "SSIM_L255")
"""The fusion metrics whose change is recorded; docs/metrics.md defines them."""


def folder_pairs(infrared: Path, visible: Path, count: int) -> list[LumaPair]:
    """At most ``count`` registered pairs of two folders, evenly spread, matched by stem.

    Raises :class:`SourceError` for folders or images that cannot be used.
    """
    matched = match(infrared=infrared, visible=visible)
    pairs = []
    for index in evenly_spaced(len(matched.names), count):
        name = matched.names[index]
        ir_file, vis_file = matched.files[name]
        ir, vis = read_luma(ir_file, "infrared"), read_luma(vis_file)
        require_one_size(name, infrared=ir, visible=vis)
        pairs.append((ir, vis))
    return pairs


def street_pairs(*, light: str, frames: int, seed: int) -> list[LumaPair]:
    """Registered pairs of the synthetic street at ``SIZE``; the infrared images are warped by the true matrix."""
    warp = RemapWarp(true_matrix(SIZE, SIZE), SIZE, SIZE)
    images: dict[Band, list[Luma8]] = {}
    for band in Band:
        url = f"synthetic://street?size={SIZE[0]}x{SIZE[1]}&fps=1&duration={frames}s&light={light}&seed={seed}"
        source = SyntheticSource(url, band)
        source.open()
        images[band] = [np.asarray(frame.luma.pixels, np.uint8) for frame in source.frames(threading.Event())]
        source.close()
    return [
        (np.asarray(warp.apply(infrared), np.uint8), visible)
        for infrared, visible in zip(images[Band.INFRARED], images[Band.VISIBLE], strict=True)
    ]


def calibration_pairs() -> list[LumaPair]:
    """The street by day and by night, and brighter, darker and inverted variants, for a variety of ranges."""
    plain = [*street_pairs(light="day", frames=4, seed=1), *street_pairs(light="night", frames=4, seed=2)]
    pairs = list(plain)
    for infrared, visible in plain:
        pairs.append((_levels(infrared, 1.4, 20), _levels(visible, 1.5, 30)))
        pairs.append((_levels(infrared, 0.6, 0), _levels(visible, 0.4, 0)))
        pairs.append((np.asarray(255 - infrared, np.uint8), visible))
    return pairs[:CALIBRATION_PAIRS]


def verification_pairs() -> list[LumaPair]:
    """Pairs not used for calibration: other moments and other noise."""
    half = VERIFICATION_PAIRS // 2
    return [*street_pairs(light="day", frames=half, seed=11), *street_pairs(light="night", frames=half, seed=12)]


def _levels(image: Luma8, gain: float, offset: float) -> Luma8:
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain, beta=offset), np.uint8)


def score_pair(infrared: Luma8, visible: Luma8, fused: Luma8) -> Mapping[str, float]:
    """The metrics of one fused image; empty for an image that is too small for them."""
    if min(fused.shape) < VIF_MINIMUM_PX:
        return {}
    return measure(infrared, visible, fused, METRICS)


def verification_warp(size: tuple[int, int]) -> RemapWarp:
    """The warp to verify engines with: rotated, enlarged and shifted, so that the infrared view is incomplete."""
    width, height = size
    turn = np.deg2rad(3.0)
    cosine, sine = 1.1 * np.cos(turn), 1.1 * np.sin(turn)
    across, down = 0.06 * width, -0.03 * height
    return RemapWarp([[cosine, -sine, across], [sine, cosine, down], [0, 0, 1]], size, size)
