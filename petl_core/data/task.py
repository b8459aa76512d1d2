"""What a task is: images, labels, sample names and the four splits of VTAB-1K, all held in memory.

A task is small (VTAB-1K has 1,000 training images), so there is no loader: the trainer moves the tensors to the
device once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from petl_core.data.decode import PLAIN, Preparation

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("natural", "specialised", "structured", "other")
SPLITS = ("train800", "val200", "train1000", "test")
GIVEN = ("train800", "val200", "test")  # the splits that a task is made of; train1000 follows


@dataclass(frozen=True)
class Counts:
    """Images of train800, val200 and test (whatever their number is), of further splits together, and classes.

    The numbers that stand here are VTAB-1K's, with 1,000 test images; they are used where nothing is known."""

    train: int = 800
    val: int = 200
    test: int = 1000
    classes: int = 10
    more: int = 0

    def of(self, split: str) -> int:
        """Images of a split by its name; of a further split, the test split's number."""
        known = {"train800": self.train, "val200": self.val, "train1000": self.train + self.val}
        return known.get(base_split(split), self.test)


@dataclass(frozen=True, eq=False)
class Task:
    """One classification task.

    ``images`` uint8 (M, 3, S, S); ``labels`` int64 (M,), in [0, C); ``ids`` M unique sample names; ``splits`` maps
    each name of ``SPLITS`` to int64 indices into the M samples. ``train1000`` is ``train800`` followed by ``val200``;
    the others never overlap. A task may have further splits, which are only evaluated on (those of the world).
    ``digest`` changes whenever a pixel, a label, a class name or a split changes. ``allowed`` names the classes of a
    split that holds some of them only (ImageNet-R and -A), among which alone a model then chooses (``restrict``).
    ``preparation``: how squares were made of pictures, so that whoever uses a model can do the same. A task too large
    for memory has a ``data.cache.Mapped`` as ``images``, which gives tensors where it is indexed.
    """

    name: str
    group: str
    classes: tuple[str, ...]
    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    splits: dict[str, Tensor]
    digest: str
    allowed: dict[str, Tensor] = field(default_factory=dict)
    preparation: Preparation = PLAIN

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_size(self) -> int:
        """Pixels along one side."""
        return int(self.images.shape[-1])

    @property
    def notes(self) -> dict[str, Any]:
        """What a file of a model trained on this task should say, so that new images are prepared and named alike."""
        how = {"image_size": self.image_size, "preparation": vars(self.preparation)}
        return {"classes": list(self.classes), **how}

    def split(self, name: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Images (n, 3, S, S), labels (n,) and ids of one split."""
        if name not in self.splits:
            raise ValueError(f"task {self.name!r} has no split {name!r}; its splits are {', '.join(self.splits)}")
        index = self.splits[name]
        return self.images[index], self.labels[index], tuple(self.ids[i] for i in index.tolist())

    def restrict(self, split: str, logits: Tensor) -> Tensor:
        """Logits (n, C) for the images of a split, minus infinity for each class that the split cannot hold."""
        if split not in self.allowed:
            return logits
        keep = self.allowed[split].to(logits.device)
        return logits.new_full(logits.shape, -float("inf")).index_copy(1, keep, logits[:, keep])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(index)}" for name, index in self.splits.items())
        return f"Task({self.name!r}, {self.group}, {self.num_classes} classes, {self.image_size} px, {sizes})"


def base_split(name: str) -> str:
    """The split that another one replaces: "train800" of "train800#r2"."""
    return name.partition("#")[0]


def split_anew(task: Task, number: int) -> Task:
    """The task with two more splits, "train800#r<number>" and "val200#r<number>": train1000 parted anew.

    Each class is shared out as the sizes of train800 and val200 are; of the images that are left over where this does
    not come out even, at most one a class, those for validation are drawn by lot, a class with a larger remainder more
    often. ``number`` is the seed. The test images stay what they are, and so does the digest of the data.
    """
    import torch

    random = np.random.Generator(np.random.PCG64(number))
    pool, held = task.splits["train1000"].numpy(), len(task.splits["val200"])
    labels = task.labels.numpy()[pool]
    present, counts = np.unique(labels, return_counts=True)
    whole, rest = np.divmod(counts * held, len(pool))  # of each class in validation, and len(pool) times the remainder
    left = held - int(whole.sum())
    if left:
        whole[random.choice(len(present), left, replace=False, p=rest / rest.sum())] += 1
    chosen = np.zeros(len(pool), dtype=bool)
    for label, many in zip(present, whole, strict=True):
        chosen[random.permutation(np.flatnonzero(labels == label))[:many]] = True
    parts = {"train800": pool[~chosen], "val200": pool[chosen]}
    more = {f"{name}#r{number}": torch.from_numpy(index) for name, index in parts.items()}
    return dataclasses.replace(task, splits={**task.splits, **more})


def with_split(task: Task, name: str) -> Task:
    """The task with the split of that name, where it is one of ``split_anew``; any other is left to the task."""
    _, marked, number = name.partition("#r")
    return split_anew(task, int(number)) if marked and number.isdecimal() else task


def make_task(
    name: str,
    group: str,
    classes: tuple[str, ...],
    *,
    images: np.ndarray,
    labels: np.ndarray,
    ids: tuple[str, ...],
    splits: Mapping[str, np.ndarray],
) -> Task:
    """A Task from arrays: images uint8 (M, 3, S, S), labels (M,), and the sample indices of each split.

    ``splits`` holds train800, val200, test and any further ones. ValueError where the arrays do not fit together.
    """
    import torch  # with the first task: packs of VTAB-1K are made where it is not installed

    if group not in GROUPS:
        raise ValueError(f"task {name!r}: group is {group!r}; the groups are {', '.join(GROUPS)}")
    if len(images) != len(labels) or len(labels) != len(ids):
        raise ValueError(f"task {name!r}: {len(images)} images, {len(labels)} labels and {len(ids)} ids")
    further = tuple(split for split in splits if split not in GIVEN)
    parts = {split: np.asarray(splits[split], dtype=np.int64) for split in (*GIVEN, *further)}
    used = np.concatenate(list(parts.values()))
    if len(np.unique(used)) != len(used):
        raise ValueError(f"task {name!r}: a sample is in two splits")
    images, labels = np.ascontiguousarray(images, dtype=np.uint8), np.asarray(labels, dtype=np.int64)

    hasher = hashlib.blake2b(digest_size=16)
    for text in (*classes, *ids, *further):
        hasher.update(text.encode() + b"\0")
    hasher.update(repr(images.shape).encode())
    for array in (images, labels.astype("<i8"), *(part.astype("<i8") for part in parts.values())):
        hasher.update(array.data)
        hasher.update(b"|")
    return Task(
        name=name,
        group=group,
        classes=tuple(classes),
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        ids=tuple(ids),
        splits={split: torch.from_numpy(index) for split, index in with_train1000(parts).items()},
        digest=hasher.hexdigest(),
    )


def in_a_row(counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The splits of samples that lie one split after the other, given how many are in each."""
    pieces = np.split(np.arange(sum(counts.values())), np.cumsum(list(counts.values()))[:-1])
    return dict(zip(counts, pieces, strict=True))


def with_train1000(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The splits of a task in the order of ``SPLITS``, train1000 among them, and then the further ones."""
    whole = dict(parts) | {"train1000": np.concatenate([parts["train800"], parts["val200"]])}
    return {split: whole[split] for split in dict.fromkeys((*SPLITS, *parts))}
