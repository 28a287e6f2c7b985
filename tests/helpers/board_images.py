"""Renders calibration boards as seen by two cameras with known lenses and a known pose."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.board.stereo import Pose
from fusepipe.calibration.board.target import Board
from fusepipe.calibration.lens import Lens

INFRARED = Lens((320, 240), 310.0, 311.0, 158.0, 121.0, (-0.12, 0.03, 0.0, 0.0, 0.0))
VISIBLE = Lens((640, 480), 600.0, 601.0, 322.0, 238.0, (-0.08, 0.02, 0.0, 0.0, 0.0))
POSE = Pose(np.asarray(cv2.Rodrigues(np.array([0.01, -0.02, 0.008]))[0], np.float64), np.array([0.06, -0.01, 0.005]))
FINE = 2
BOARD = Board("checkerboard", 7, 6, 0.05)


def placements(count: int, seed: int = 3) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(rotation 3x3, translation) from board to visible camera: tilted, covering the field of view."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        turn = np.array([0.5 * np.sin(2.4 * number), 0.5 * np.cos(1.7 * number), 0.15 * np.sin(number)])
        depth = 0.75 + 0.35 * random.random()
        place = np.array([0.16 * np.cos(2.1 * number), 0.1 * np.sin(1.3 * number), depth])
        rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
        middle = np.array([(BOARD.columns - 1) / 2, (BOARD.rows - 1) / 2, 0.0]) * BOARD.spacing_m
        made.append((rotation, place - rotation @ middle))
    return made


def in_infrared(
    rotation: NDArray[np.float64], translation: NDArray[np.float64], pose: Pose = POSE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same placement, relative to the infrared camera."""
    return pose.rotation.T @ rotation, pose.rotation.T @ (translation - pose.translation_m)


@cache
def _directions(lens: Lens) -> NDArray[np.float64]:
    """The ray (x, y, 1) of each of ``FINE`` x ``FINE`` parts of every pixel."""
    width, height = lens.size
    x, y = np.meshgrid((np.arange(width * FINE) + 0.5) / FINE - 0.5, (np.arange(height * FINE) + 0.5) / FINE - 0.5)
    rays = lens.rays(np.stack([x.ravel(), y.ravel()], axis=1))
    return np.concatenate([rays, np.ones((len(rays), 1))], axis=1)


def draw(
    lens: Lens,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    *,
    levels: tuple[int, int, int] = (40, 210, 110),
    noise: float = 1.0,
    seed: int = 0,
    board: Board = BOARD,
) -> NDArray[np.uint8]:
    """HxW uint8; ``levels`` of dark squares, light squares and background."""
    (width, height), fine = lens.size, FINE
    directions = _directions(lens)
    normal, offset = rotation[:, 2], float(rotation[:, 2] @ translation)
    points = directions * (offset / (directions @ normal))[:, None] - translation
    across, down = points @ rotation[:, 0] / board.spacing_m, points @ rotation[:, 1] / board.spacing_m
    inside = (across > -1) & (across < board.columns) & (down > -1) & (down < board.rows)
    dark = (np.floor(across) + np.floor(down)) % 2 == 0
    image = np.where(inside, np.where(dark, levels[0], levels[1]), levels[2]).reshape(height * fine, width * fine)
    small = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 0.7)
    small += np.random.default_rng(seed).normal(0, noise, small.shape)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def write_views(folder: Path, count: int, *, mirrored: bool = False, loose: bool = False) -> None:
    """``ir/`` and ``vis/`` of ``count`` pairs; the infrared board is faint and inverted."""
    random = np.random.default_rng(9)
    for band in ("ir", "vis"):
        (folder / band).mkdir()
    for number, (rotation, translation) in enumerate(placements(count)):
        pose = POSE
        if loose:  # the bracket wobbles between the views
            wobble = np.asarray(cv2.Rodrigues(random.normal(0, 0.03, 3))[0], np.float64)
            pose = Pose(wobble @ POSE.rotation, POSE.translation_m)
        infrared = draw(INFRARED, *in_infrared(rotation, translation, pose), levels=(128, 88, 105), seed=number)
        if mirrored:
            infrared = infrared[:, ::-1]
        visible = draw(VISIBLE, rotation, translation, seed=number + 100)
        for band, image in (("ir", infrared), ("vis", visible)):
            assert cv2.imwrite(str(folder / band / f"{number:02}.png"), image)
