"""Figures 5 and 6 of the paper: loss and images of stage 1 with and without the discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.core.html_pages import environment
from fusepipe.train.data.crops import as_input
from fusepipe.train.networks.mfe import MfeNet

Curve = Sequence[tuple[int, float]]
"""(step, loss) in the order of the steps."""

WITH, WITHOUT = "with discriminator", "without discriminator"
_COLOURS = ("#1f5fa8", "#c2410c", "#15803d", "#7e22ce")
_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 704, 20, 316  # of the area of the curves
_FEW = 40  # points that need no smoothing
_GAP_PX, _CAPTION_PX = 6, 22
_PATCH_PX, _ZOOM = 64, 4


def read_curve(run: Path, tags: Sequence[str]) -> list[tuple[int, float]]:
    """The sum of scalars in a run's TensorBoard log; raises :class:`SourceError` where one is missing.

    A resumed run has several files; where a step is in two, the later one is used.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not run.is_dir():
        raise SourceError(f"{run}: no such folder; give the folder of a stage 1")
    log = EventAccumulator(str(run), size_guidance={"scalars": 0})
    log.Reload()
    logged = log.Tags()["scalars"]
    missing = [tag for tag in tags if tag not in logged]
    if missing:
        raise SourceError(f"{run}: its TensorBoard log has no {', '.join(missing)}; is it the folder of a stage 1?")
    columns = [{event.step: float(event.value) for event in log.Scalars(tag)} for tag in tags]
    steps = sorted(set.intersection(*(set(column) for column in columns)))
    return [(step, sum(column[step] for column in columns)) for step in steps]


def smoothed(curve: Curve, weight: float = 0.8) -> list[tuple[int, float]]:
    """An exponential moving average with bias correction at its start."""
    made, total, share = [], 0.0, 0.0
    for step, value in curve:
        total, share = weight * total + (1 - weight) * value, weight * share + 1 - weight
        made.append((step, total / share))
    return made


def plot(curves: Mapping[str, Curve], title: str, y_label: str) -> str:
    """The curves as an SVG image, the loss on a logarithmic axis.

    Thin lines as logged, thick ones smoothed; curves of few points are not smoothed.
    """
    points = [point for curve in curves.values() for point in curve]
    last = max(step for step, _ in points)
    low, high = (float(np.log10(extreme(value for _, value in points))) for extreme in (min, max))

    def x(step: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * step / last, 1)

    def y(value: float) -> float:
        return round(float(_BOTTOM - (_BOTTOM - _TOP) * (np.log10(value) - low) / max(high - low, 1e-9)), 1)

    legend = dict(zip(curves, cycle(_COLOURS), strict=False))
    lines = []
    for name, curve in curves.items():
        drawn = [(0.7, 0.35, curve), (2.2, 1, smoothed(curve))] if len(curve) > _FEW else [(2.2, 1, curve)]
        for width, opacity, line in drawn:
            path = " ".join(f"{x(step)},{y(value)}" for step, value in line)
            lines.append({"colour": legend[name], "width": width, "opacity": opacity, "points": path})
    template = environment("fusepipe.train").get_template("loss.svg")
    return template.render(
        title=title,
        y_label=y_label,
        lines=lines,
        legend=legend.items(),
        levels=[(y(value), f"{value:.3g}") for value in map(float, 10 ** np.linspace(low, high, 5))],
        steps=[(x(step), step) for step in np.linspace(0, last, 5).round().astype(int).tolist()],
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
    )


def reconstruct(network: MfeNet, image: Luma8) -> Luma8:
    """The auto-encoder's reconstruction of a photograph: HxW uint8 to the same."""
    with torch.no_grad():
        made = network.autoencoder(as_input(image)).clamp(0, 1)[0, 0]
    return np.asarray((made.numpy() * 255).round(), np.uint8)


def side_by_side(columns: Mapping[str, Sequence[Luma8]]) -> NDArray[np.uint8]:
    """Images in columns with captions; below each the patch with most detail, four times as large."""
    names = list(columns)
    rows = []
    for images in zip(*columns.values(), strict=True):
        y, x = _most_detailed(images[0])
        cells = []
        for name, image in zip(names, images, strict=True):
            patch = np.ascontiguousarray(image[y : y + _PATCH_PX, x : x + _PATCH_PX])
            patch = np.asarray(cv2.resize(patch, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST), np.uint8)
            shown = cv2.rectangle(image.copy(), (x, y), (x + _PATCH_PX, y + _PATCH_PX), 255, 1)
            cells.append(_stack(_caption(name, shown.shape[1]), np.asarray(shown, np.uint8), patch))
        rows.append(_row(cells))
    return _stack(*rows)


def _most_detailed(image: Luma8) -> tuple[int, int]:
    detail = cv2.Laplacian(image, cv2.CV_32F).__abs__()
    mean = cv2.boxFilter(detail, cv2.CV_32F, (_PATCH_PX, _PATCH_PX), anchor=(0, 0), borderType=cv2.BORDER_ISOLATED)
    height, width = (max(1, side - _PATCH_PX) for side in image.shape)
    _, _, _, (x, y) = cv2.minMaxLoc(mean[:height, :width])
    return int(y), int(x)


def _caption(text: str, width: int) -> Luma8:
    strip = np.full((_CAPTION_PX, width), 255, np.uint8)
    return np.asarray(cv2.putText(strip, text, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA), np.uint8)


def _stack(*images: Luma8) -> Luma8:
    width = max(image.shape[1] for image in images)
    padded = [np.pad(i, ((0, _GAP_PX), (0, width - i.shape[1])), constant_values=255) for i in images]
    return np.concatenate(padded)


def _row(images: Sequence[Luma8]) -> Luma8:
    height = max(image.shape[0] for image in images)
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, _GAP_PX)), constant_values=255) for i in images]
    return np.concatenate(padded, axis=1)
