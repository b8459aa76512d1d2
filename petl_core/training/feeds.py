"""Where a run's images lie: on the model's device, all of them as bytes, or on the host, from where batches are sent.

A task of VTAB-1K's size is a few hundred megabytes, so it is moved once and there is no loader. A task that would fill
more than ``RESIDENT`` of the device's memory is streamed: a thread gathers the next batches (the images may be mapped
from a file) in page-locked memory while the device computes. The numbers that come out are the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from petl_core.data.decode import prefetched

if TYPE_CHECKING:
    from petl_core.data.task import Task

RESIDENT = 0.5  # of the free memory of a GPU, or of the machine's memory elsewhere: larger images are streamed
AHEAD = 3  # batches gathered before they are asked for


class Resident:
    """Images (n, 3, S, S) uint8, or features (n, D), that lie on the device."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.device = images, images.device

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each of the index tensors."""
        return (self.images[part.to(self.device)] for part in parts)


class Streamed:
    """Rows ``index`` (n,) of uint8 images (M, 3, S, S) that stay on the host, sent to ``device`` batch by batch.

    ``images`` is a tensor, or what gives one where it is indexed (``data.cache.Mapped``).
    """

    def __init__(self, images: Tensor, index: Tensor, device: torch.device) -> None:
        self.images, self.index, self.device = images, index, device

    def __len__(self) -> int:
        return len(self.index)

    def batches(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each of the index tensors; the next few are gathered meanwhile."""
        gathered = prefetched(parts, lambda part: self._gather(self.index[part]), threads=1, ahead=AHEAD)
        return (images.to(self.device, non_blocking=True) for _, images in gathered)

    def _gather(self, rows: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return self.images[rows]
        with torch.cuda.device(self.device):  # locking pages on another device would occupy that too
            return self.images[rows].pin_memory()


Feed = Resident | Streamed


def feeds(
    task: Task, splits: list[tuple[str, int | None]], device: torch.device
) -> list[tuple[Feed, Tensor, tuple[str, ...]]]:
    """Of each split, ``count`` evenly spaced images (None: all), their labels (n,) on the device, and ids.

    All of them are resident if together they fit.
    """
    if fits(task, splits, device):
        taken = [take(task, split, count) for split, count in splits]
        return [(Resident(images.to(device)), labels.to(device), ids) for images, labels, ids in taken]
    rows = [rows_of(task, split, count) for split, count in splits]
    return [
        (
            Streamed(task.images, index, device),
            task.labels[index].to(device),
            tuple(task.ids[i] for i in index.tolist()),
        )
        for index in rows
    ]


def fits(task: Task, counts: Iterable[tuple[str, int | None]], device: torch.device) -> bool:
    """Do these many images of these splits fit in ``RESIDENT`` of the memory there is for them?

    Images that are mapped from files are not read into the host's own memory, whatever their number.
    """
    if device.type != "cuda" and not isinstance(task.images, Tensor):
        return False
    images = sum(min(len(task.splits[split]), count or len(task.splits[split])) for split, count in counts)
    return images * math.prod(task.images.shape[1:]) <= RESIDENT * memory(device)


def memory(device: torch.device) -> float:
    """Bytes: of a GPU those that are free, elsewhere those of the whole machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return float("inf")


def rows_of(task: Task, split: str, count: int | None = None) -> Tensor:
    """The samples (n,) of a split, or ``count`` of them, evenly spaced, if it has more."""
    index = task.splits[split]
    if count is None or count >= len(index):
        return index
    return index[torch.linspace(0, len(index) - 1, count).round().long()]


def take(task: Task, split: str, count: int | None = None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """``count`` evenly spaced images of a split (None: all), uint8 (n, 3, S, S), their labels (n,) and ids."""
    if count is None or split not in task.splits:
        return task.split(split)  # which says what splits there are
    index = rows_of(task, split, count)  # before any image is read
    return task.images[index], task.labels[index], tuple(task.ids[i] for i in index.tolist())
