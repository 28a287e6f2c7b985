"""The device, precision and CPU threads of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fusepipe.core.errors import UsageError

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; raises :class:`UsageError` for a device that torch cannot use."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"cannot train on {name!r}: {str(error).splitlines()[0]}; try --device cpu") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type convolutions compute in; raises :class:`UsageError` for fp16 on a CPU, where torch cannot train."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name == "fp16" and device.type == "cpu":
        raise UsageError("precision: fp16 trains on GPUs only: use auto, fp32 or bf16")
    return _HALVES.get(name, torch.float32)


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Runs torch with ``count`` CPU threads (0: as many as before) until the context ends."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
