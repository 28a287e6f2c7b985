"""One training process or several, as ``torchrun`` or Ray Train start them.

Each process takes its part of every batch, DistributedDataParallel averages their gradients, and only process 0
writes files and messages. With one process nothing is communicated.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fusepipe.core.errors import UsageError

_TIMEOUT = timedelta(minutes=10)  # of a collective call: process 0 validates alone while the others wait


@dataclass(frozen=True, slots=True)
class Processes:
    """This process' rank in the run, the number of processes and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes the files."""
        return self.rank == 0

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network wrapped so that its gradients are means over the processes; itself where there is one."""
        if self.world == 1 or not any(p.requires_grad for p in network.parameters()):
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.world > 1:
            distributed.all_reduce(values)
            values = values / self.world
        return values

    def barrier(self) -> None:
        """Waits until all processes have come this far."""
        self.mean(torch.zeros(1, device=self.device))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process: a Ctrl-C reaches them between different steps."""
        if self.world == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
        return bool(raised.item() > 0)


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """The process group that ``torchrun`` describes (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``); else one process.

    A group that exists already, as in a worker of Ray Train, is used and left to its owner.
    Networks of :meth:`Processes.data_parallel` must not outlive the context. Raises :class:`UsageError` for an
    incomplete environment and for more processes than GPUs.
    """
    world = _world_size()
    if world == 1:
        yield Processes(device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE={world} without {', '.join(missing)}: leave them to torchrun, or unset it")
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UsageError(f"process {local} finds only {torch.cuda.device_count()} GPUs: start one process per GPU")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if distributed.is_initialized():
        yield Processes(device, distributed.get_rank(), world)
        return
    # If imported later, its default arguments (group.WORLD) would own the group until Python ends, see below.
    importlib.import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(device, distributed.get_rank(), world)
    finally:
        # Gloo's threads must end before Python does: one that releases a tensor later aborts the process
        # (pytorch/pytorch#190489). They end with the group's last owner, and wrapped networks own it too.
        gc.collect()
        distributed.destroy_process_group()


def require_one_process(what: str) -> None:
    """Raises :class:`UsageError` where ``torchrun`` started several: each would write to the same folder."""
    if (world := _world_size()) > 1:
        raise UsageError(f"{what} trains in one process, and torchrun started {world}: run it without torchrun")


def _world_size() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"WORLD_SIZE={text} is not a number of processes: leave it to torchrun, or unset it")
    return int(text)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside a :meth:`Processes.data_parallel` wrapper."""
    return network.module if isinstance(network, DistributedDataParallel) else network
