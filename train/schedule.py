"""The learning rate's schedule."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, peak: float, warm_up: float = 0.3) -> float:
    """The rate of a step: cosine from peak/25 up to the peak at the share ``warm_up``, cosine down to peak/250,000.

    (Smith and Topin 2019, as ``torch.optim.lr_scheduler.OneCycleLR``; a pure function of the step, so that a
    checkpoint needs nothing of it.)
    """

    def cosine(start: float, end: float, part: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    turn = warm_up * steps - 1
    if step <= turn:
        return cosine(peak / 25, peak, step / turn)
    return cosine(peak, peak / 250_000, (step - turn) / max(steps - 1 - turn, 1e-9))
