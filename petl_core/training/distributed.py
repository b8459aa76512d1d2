"""Several processes that train one model: ``torchrun --nproc-per-node 2 -m petl_core run ...``, one process a GPU.

Every process holds the whole model and goes through the same batches in the same order, each with its share of every
batch; the gradients, divided by the size of the whole batch, are then added up. That is done by hand and not by
``DistributedDataParallel``: what trains is small (LoRA on a ViT-B: 1 MB), so there is nothing to gain by sending it in
pieces during the backward pass, and a sum needs no wrapper that compiling, checkpointing and smaller batches must suit.
Without dropout and drop path the result is that of one process, up to rounding; with them, each process draws its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from petl_core.utils import UserError


@dataclass(frozen=True)
class Team:
    """Which of how many processes this is. A team of one adds nothing up."""

    rank: int = 0
    size: int = 1

    def part(self, count: int) -> slice:
        """This process's share of ``count`` things: shares differ by one at most; only the first is never empty."""
        return slice(-(-count * self.rank // self.size), -(-count * (self.rank + 1) // self.size))

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, in place of ``tensor``; all must call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


def team() -> Team:
    """The processes that ``joined`` has brought together; a team of one otherwise."""
    if not (dist.is_available() and dist.is_initialized()):
        return Team()
    return Team(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Under torchrun, join the other processes for the time of a ``with``; gives the device of this one.

    ``device`` is "cpu", "cuda" (each process takes the GPU of its local rank) or another name, which is kept. Without
    torchrun nothing happens. ``UserError`` where there are more processes than GPUs.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield device
        return
    if device.startswith("cuda"):
        place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= there:
            raise UserError(f"torchrun started more processes than the {there} GPUs here; use --nproc-per-node {there}")
        device = f"cuda:{place}"
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
