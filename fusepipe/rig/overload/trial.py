"""What lighter settings of a rig would cost on this machine: each is tried on an image of the rig's size."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fusepipe.core.errors import FusepipeError
from fusepipe.core.fuser import Fuser, FuserInfo
from fusepipe.core.models import NETWORKS
from fusepipe.rig.factories.fusers import load_fuser

log = logging.getLogger(__name__)

RUNS = 3
LIGHT, LIGHTEST = "stream", "mean"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of ``fusion`` with another value, and what makes its fuser."""

    text: str
    open: Callable[[], Fuser]


@dataclass(frozen=True, slots=True)
class Option:
    """A setting and its measured time per frame."""

    text: str
    frame_ms: float


def lighter_models(model: str) -> list[str]:
    """Models to use in place of ``model`` when the machine is too slow for it, heaviest first."""
    if model in (LIGHTEST, "max"):
        return []
    return [LIGHTEST] if model == LIGHT else [LIGHT, LIGHTEST]


def candidates(info: FuserInfo) -> list[Setting]:
    """Settings that should be lighter than the fuser that runs, on the CPU; none on a GPU, which is not shared out."""
    if not info.device.startswith("cpu"):
        return []
    found = [
        Setting(f"fusion.model: {model}", lambda model=model: load_fuser(model))  # type: ignore[misc]
        for model in lighter_models(info.model)
    ]
    if info.model in NETWORKS and info.precision != "int8":
        found.insert(0, Setting("fusion.precision: int8", lambda: load_fuser(info.model, info.backend, "int8")))
    return found


def time_fuser(fuser: Fuser, size: tuple[int, int]) -> float:
    """Median time per frame in ms of a fuser at (height, width), after one run to warm up."""
    images = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    fuser.prepare(*size)
    fuser.fuse(images[0], images[1])
    times_ms = []
    for _ in range(RUNS):
        begun_ns = time.monotonic_ns()
        fuser.fuse(images[0], images[1])
        times_ms.append((time.monotonic_ns() - begun_ns) / 1e6)
    return statistics.median(times_ms)


def time_options(settings: Sequence[Setting], size: tuple[int, int], stop: threading.Event) -> list[Option]:
    """Times each setting until ``stop``; those that this machine cannot run are left out."""
    options = []
    for setting in settings:
        if stop.is_set():
            break
        try:
            with setting.open() as fuser:
                options.append(Option(setting.text, time_fuser(fuser, size)))
        except FusepipeError as error:
            log.debug("%s cannot be tried: %s", setting.text, error)
    return options
