"""The processes that train together: one, or several started by torch's own launcher (torchrun).

The launcher tells each its place through the environment; everything else goes through torch.distributed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from pcsr_cli.engine.device import resolve_device


@dataclass(frozen=True)
class Processes:
    """This process's place among ``count``, and the device it works on. The one that leads talks and writes."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports, validates and saves."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The leader's ``value``, in every process."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return float(shared)

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes, in every process."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.count

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            distributed.barrier()


def leads_here() -> bool:
    """Whether this is the leading process, as the launcher's environment tells."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Take this process's place for as long as the context lasts. Raises DeviceError.

    Several processes on ``auto`` or ``cuda`` take a GPU each; on the CPU they meet over gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, resolve_device(device))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    found = resolve_device(device)
    own = resolve_device(f"cuda:{local}") if found.type == "cuda" else found
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", rank=rank, world_size=count)
    try:
        yield Processes(rank, count, own)
    finally:
        distributed.destroy_process_group()
