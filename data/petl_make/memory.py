"""The memory that training takes: what autograd saves, counted exactly, and the peak of this process, measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.vit import ViT, ViTConfig

STATUS = Path("/proc/self/status")


@dataclass
class Saved:
    """Storages that a forward pass saved for the backward pass: their bytes, by address."""

    storages: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


@contextmanager
def saving(apart: Sequence[Tensor]) -> Iterator[Saved]:
    """Count what autograd saves inside the ``with``: each storage once, whole, those of the tensors ``apart`` left out.

    A saved view keeps its whole storage alive, and two saved views of one storage keep it alive once.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart}
    saved = Saved()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def saved_activations(model: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass of ``images`` saves for the backward pass, besides parameters and the images."""
    with saving([*model.parameters(), *model.buffers(), images]) as saved:
        output = model(images)
    del output
    return saved.bytes


def bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Peak:
    """The largest memory of this process (on a GPU: of the allocator) since this was made, over what it was then."""

    def __init__(self, device: str) -> None:
        self.device = device
        _warm_up(device)
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
        else:
            self.start = resident()
            with suppress(OSError):  # elsewhere the peak of starting up counts; a model worth measuring is above it
                Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far

    def bytes(self) -> int:
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) - self.start
        return resident(peak=True) - self.start


def resident(*, peak: bool = False) -> int:
    """Bytes of this process that are in memory now, or at most were."""
    if STATUS.exists():
        key = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
        return 1024 * int(line.split()[1])
    try:
        import resource  # not on Windows, where nothing is measured
    except ImportError:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no /proc: the peak so far serves for both
    return largest if sys.platform == "darwin" else 1024 * largest


def _warm_up(device: str) -> None:
    """A step of a tiny ViT, so that what libraries load at first use is there before counting."""
    vit = ViT(ViTConfig(32, 8, 16, 1, 2), 2).to(device)
    optimiser = torch.optim.AdamW(vit.parameters(), fused=True)
    F.cross_entropy(
        vit(torch.zeros(1, 3, 32, 32, device=device)), torch.zeros(1, dtype=torch.long, device=device)
    ).backward()
    optimiser.step()
