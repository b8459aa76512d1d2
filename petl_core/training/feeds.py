"""Where a run's images lie: on the model's device, all of them as bytes, or on the host, from where batches are sent.

A task of VTAB-1K's size is a few hundred megabytes, so it is moved once and there is no loader. A larger one is
streamed: threads gather the next batches (the images may be mapped from a file) in page-locked memory while the
device computes. The numbers that come out are the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from petl_core.data.decode import prefetched
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.data.task import Task

RESIDENT = 0.5  # of the free memory of a GPU, or of the machine's memory elsewhere: larger images are streamed
AHEAD = 3  # batches gathered before they are asked for


@dataclass(frozen=True)
class Feed:
    """Images uint8 (n, 3, S, S), or features (n, D), of which batches are wanted on ``device``.

    Without ``rows`` they lie there. With ``rows`` (n,) they are those of ``images`` (M, 3, S, S), a tensor on the host
    or what gives one where it is indexed (``data.cache.Mapped``), and are sent batch by batch.
    """

    images: Tensor
    device: torch.device
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def batches(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each of the index tensors; of a stream the next few are gathered meanwhile."""
        rows = self.rows
        if rows is None:
            yield from (self.images[part.to(self.device)] for part in parts)
            return
        for _, images in prefetched(parts, lambda part: self._locked(self.images[rows[part]]), threads=1, ahead=AHEAD):
            yield images.to(self.device, non_blocking=True)

    def _locked(self, images: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return images
        with torch.cuda.device(self.device):  # a thread has one of its own; locking pages on another would occupy it
            return images.pin_memory()


def feeds(
    task: Task, splits: list[tuple[str, int | None]], device: torch.device
) -> list[tuple[Feed, Tensor, tuple[str, ...]]]:
    """Of each split, ``count`` evenly spaced images (None: all), their labels (n,) on the device, and ids.

    All of them are resident if together they fit. Images that are mapped from files are not read into the host's own
    memory, whatever their number.
    """
    chosen = [rows_of(task, split, count) for split, count in splits]
    size = sum(len(rows) for rows in chosen) * math.prod(task.images.shape[1:])  # bytes
    streamed = size > RESIDENT * memory(device) or (device.type != "cuda" and not isinstance(task.images, Tensor))
    return [
        (
            Feed(task.images, device, rows) if streamed else Feed(task.images[rows].to(device), device),
            task.labels[rows].to(device),
            tuple(task.ids[i] for i in rows.tolist()),
        )
        for rows in chosen
    ]


def memory(device: torch.device) -> float:
    """Bytes: of a GPU those that are free, elsewhere those of the whole machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return math.inf


def rows_of(task: Task, split: str, count: int | None = None) -> Tensor:
    """The samples (n,) of a split, or ``count`` of them, evenly spaced, if it has more."""
    if split not in task.splits:
        raise UserError(f"task '{task.name}' has no split '{split}'; it has: {', '.join(sorted(task.splits))}")
    if count is not None and count < 1:
        raise UserError(f"of split '{split}' {count} images are asked for; give 1 or more, or None for the whole split")
    index = task.splits[split]
    if count is None or count >= len(index):
        return index
    return index[torch.linspace(0, len(index) - 1, count).round().long()]


def take(task: Task, split: str, count: int | None = None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """``count`` evenly spaced images of a split (None: all), uint8 (n, 3, S, S), their labels (n,) and ids."""
    index = rows_of(task, split, count)  # before any image is read
    return task.images[index], task.labels[index], tuple(task.ids[i] for i in index.tolist())
