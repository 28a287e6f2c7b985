"""One training process or several: what ``torchrun`` says, and what the processes have to agree on.

Each process takes its part of every batch, DistributedDataParallel averages their gradients, and the
first one alone writes files and talks. Everything is a plain function call where there is one process.
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

_PATIENCE = timedelta(minutes=10)  # of a process for the others: the first one validates alone meanwhile


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def share_gradients(self, network: nn.Module) -> nn.Module:
        """The network in the form whose gradients are those of the whole batch."""
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

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process: a Ctrl-C reaches them between different steps."""
        if self.world == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
        return bool(raised.item() > 0)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that ``torchrun`` started together (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``); else one.

    Networks of :meth:`Processes.share_gradients` do not outlive the context.
    """
    world = _started_processes()
    if world == 1:
        yield Processes(device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE={world} without {', '.join(missing)}: leave them to torchrun, or unset it")
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UsageError(f"process {local} finds only {torch.cuda.device_count()} GPUs: start no more than those")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Imported later, its default arguments (group.WORLD) would own the group until Python ends, see below.
    importlib.import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(device, distributed.get_rank(), world)
    finally:
        # Gloo's threads must end before Python does: one that still drops a tensor then aborts the process
        # (pytorch/pytorch#190489). They end with the group's last owner, and shared networks own it too.
        gc.collect()
        distributed.destroy_process_group()


def require_one_process(what: str) -> None:
    """Raises :class:`UsageError` where ``torchrun`` started several: each would train into the same folder."""
    if (world := _started_processes()) > 1:
        raise UsageError(f"{what} trains in one process, and torchrun started {world}: leave torchrun out")


def _started_processes() -> int:
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal() or int(said) < 1:
        raise UsageError(f"WORLD_SIZE={said} is no number of processes: leave it to torchrun, or unset it")
    return int(said)


def module_of(network: nn.Module) -> nn.Module:
    """The network itself, without what shares its gradients."""
    return network.module if isinstance(network, DistributedDataParallel) else network
