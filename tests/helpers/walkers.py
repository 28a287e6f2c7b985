"""The motion energy of two cameras before a scene in which objects move without a pause."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.units import MS
from fusepipe.pipeline.pairing.motion_offset import FINE, MotionEnergy

SECONDS = 12
NARROW = np.array([[0.6, 0.0, 0.35], [0.0, 0.6, 0.05], [0.0, 0.0, 1.0]])  # the upper right of the visible view


def walkers(
    seed: int, *, late_ms: float = 0.0, view: NDArray[np.float64] | None = None, repeats: int = 1
) -> MotionEnergy:
    """Three objects that walk about without a pause: the motion of the whole image is that of key frames.

    ``view``: the part of the scene that is seen. ``repeats``: how often the camera delivers each frame; the first of
    them shows the moment at which it is delivered.
    """
    scene, own = np.random.default_rng(seed), np.random.default_rng([seed, abs(round(late_ms)), repeats])
    knots = scene.uniform(0, 1, (3, 2, SECONDS + 3))
    seen = MotionEnergy()
    y, x = np.mgrid[: FINE[1], : FINE[0]]
    places = np.stack([(x.ravel() + 0.5) / FINE[0], (y.ravel() + 0.5) / FINE[1], np.ones(x.size)])
    there = (np.eye(3) if view is None else view) @ places
    for index in range(25 * SECONDS):
        at_s = (index // repeats * repeats + 1 - repeats / 2) / 25 + late_ms / 1000
        moved = np.zeros(x.size)
        for walk in knots:
            at = [np.interp(at_s, np.arange(SECONDS + 3), part) for part in walk]
            moved += 8 * np.exp(-((there[0] - at[0]) ** 2 + (there[1] - at[1]) ** 2) / 0.006)
        fine = (moved * (index % repeats == 0) * repeats + own.uniform(0, 1, x.size) + 6 * (index % 10 == 0)).reshape(
            FINE[::-1]
        )
        seen.samples.append((index * 40 * MS + 20 * MS, float(fine.mean())))
        seen.fine.append(fine.astype(np.float16))
    return seen
