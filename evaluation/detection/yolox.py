"""Detectors in YOLOX's ONNX format: preparing an image, decoding the output, non-maximum suppression.

Source: Ge et al., "YOLOX: exceeding YOLO series in 2021", as its demo of ONNX Runtime does it (models exported without
``--decode_in_inference``). The network's runtime is an argument, so nothing here imports one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import UsageError

STRIDES = (8, 16, 32)
PADDING = 114
"""The grey level beside and below an image that does not fill the input."""
LOWEST_SCORE = 0.01
NMS_IOU = 0.45

Floats = NDArray[np.float32]
Bgr = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Box:
    """A detected or labelled object: left, top, right, bottom in pixels of its image; ``score`` is 1 for labels."""

    name: str
    corners: tuple[float, float, float, float]
    score: float = 1.0


class YoloxDetector:
    """A detector: ``run`` maps 1x3xHxW float32 (B, G, R, 0 to 255) to 1 x anchors x (5 + classes).

    ``size`` is the input's (height, width), ``names`` the classes in their order. Raises :class:`UsageError` where the
    output, whose shape is ``output``, is not YOLOX's.
    """

    def __init__(
        self, run: Callable[[Floats], Floats], size: tuple[int, int], output: Sequence[int], names: Sequence[str]
    ) -> None:
        anchors = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
        if any(side % STRIDES[-1] for side in size) or tuple(output) != (1, anchors, 5 + len(names)):
            raise UsageError(
                f"not a YOLOX detector: with an input of {size[1]}x{size[0]} and {len(names)} classes its output is "
                f"1x{anchors}x{5 + len(names)}, this one has {'x'.join(map(str, output))}"
            )
        self.names = tuple(names)
        self._run, self._size = run, size
        self._grid, self._stride = _anchor_points(size)

    def detect(self, image: Bgr, wanted: Collection[str]) -> list[Box]:
        """The objects of the classes ``wanted`` in an HxWx3 B, G, R image, scores from 0.01."""
        fed, scale = letterboxed(image, self._size)
        raw = np.asarray(self._run(fed), np.float32)[0]
        centres = (raw[:, :2] + self._grid) * self._stride
        sides = np.exp(raw[:, 2:4]) * self._stride
        corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1) / scale
        found: list[Box] = []
        for index, name in enumerate(self.names):
            if name in wanted:
                scores = raw[:, 4] * raw[:, 5 + index]
                likely = np.flatnonzero(scores > LOWEST_SCORE)
                kept = suppress(corners[likely], scores[likely])
                found += [Box(name, _corners(corners[likely[k]]), float(scores[likely[k]])) for k in kept]
        return found


def class_names(detector: Path, count: int) -> tuple[str, ...]:
    """The names of a detector's classes: ``NAME.names`` beside ``NAME.onnx``, one a line, or COCO's 80.

    Raises :class:`UsageError` where their number is not ``count``.
    """
    own = detector.with_suffix(".names")
    file = own if own.is_file() else Path(__file__).with_name("coco.names")
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) != count:
        raise UsageError(
            f"{detector}: has {count} classes, {file.name} has {len(names)} names: write them to {own}, one a line"
        )
    return names


def letterboxed(image: Bgr, size: tuple[int, int]) -> tuple[Floats, float]:
    """The network's input, with the image scaled to fit at the top left, and the scale."""
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    fitted = max(1, int(width * scale)), max(1, int(height * scale))
    canvas = np.full((*size, 3), PADDING, np.uint8)
    canvas[: fitted[1], : fitted[0]] = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32), scale


def suppress(corners: NDArray[np.floating], scores: NDArray[np.floating]) -> list[int]:
    """Indices of the boxes (Nx4) to keep, best score first: none overlaps a better one by ``NMS_IOU``."""
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[overlaps(corners[best], corners[order]) < NMS_IOU]
    return kept


def overlaps(one: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of one box (4) with others (Nx4): left, top, right, bottom."""
    one, others = np.asarray(one, np.float64), np.asarray(others, np.float64).reshape(-1, 4)
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    union = (one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    shares: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


def _anchor_points(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """(x, y) of each anchor in units of its stride, and the stride: anchors x 2 and anchors x 1."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
        points.append(np.stack((x.ravel(), y.ravel()), axis=1))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _corners(row: NDArray[np.floating]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in row)
    return left, top, right, bottom
