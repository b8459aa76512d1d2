"""Tasks too large for memory: their images are decoded once into packs in the user's cache, and mapped from there.

100,000 images at 224 pixels are 15 GB of bytes. ``packed`` decodes them with a few threads into an uncompressed pack
(``array_pack``), which is there whole or not at all; every process that loads the task maps the same file, so the
system's page cache holds it once. ``Task.images`` is then a ``Mapped``, of which only the rows asked for are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from petl_core.data import array_pack
from petl_core.data.decode import SHORT_SIDE, open_image, refuse_truncated, to_rgb, to_square
from petl_core.data.task import SPLITS, Task
from petl_core.utils import UserError, cache_folder, progress_bar, write_atomic

FORMAT = 1
AHEAD = 64  # pictures decoded before they are asked for


@dataclass(frozen=True)
class Listed:
    """One picture: its name in the task, its label, something that changes when its file does, and how to get it."""

    id: str
    label: int
    mark: str
    source: Any  # a path, or a function () -> PIL image


class Mapped:
    """Several arrays uint8 (n_i, S, S, 3), mapped from files, seen as one tensor (M, 3, S, S): it can be indexed on
    its first axis, and gives a new tensor of the rows asked for."""

    dtype = torch.uint8

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])
        _, height, width, channels = arrays[0].shape
        self.shape = torch.Size((int(self.ends[-1]), channels, height, width))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        rows = np.arange(len(self))[index.numpy() if isinstance(index, Tensor) else index]
        if rows.ndim == 0:
            return self[torch.from_numpy(rows[None])][0]
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        which = np.searchsorted(self.ends, rows, side="right")
        for part in np.unique(which):
            here = np.flatnonzero(which == part)
            start = self.ends[part] - len(self.arrays[part])
            out[here] = self.arrays[part][rows[here] - start].transpose(0, 3, 1, 2)
        return torch.from_numpy(out)


@dataclass(frozen=True)
class Packed:
    """The pictures of a list, decoded: uint8 (n, S, S, 3), mapped; their labels and ids; and a digest of the pixels."""

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    digest: str


def packed(name: str, entries: Sequence[Listed], size: int, crop: bool) -> Packed:
    """Decode pictures into a pack of the cache, or find them there; ``name`` is part of the folder's name.

    ``crop``: how a square is made of a picture (see ``decode``). Another list, size or way is another pack. UserError
    naming the file that is damaged, or where the disk is too small; then there is no pack.
    """
    from filelock import FileLock

    total = hashlib.sha256(json.dumps([FORMAT, size, crop, round(size * SHORT_SIDE)]).encode())
    for entry in entries:
        total.update(f"{entry.id}\0{entry.label}\0{entry.mark}\n".encode())
    folder = cache_folder() / "packs" / f"{name}-{size}px-{total.hexdigest()[:16]}"
    if not array_pack.is_pack(folder):
        refuse_truncated()
        array_pack.demand_space(folder, len(entries) * size * size * 3)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {folder}: {error.strerror}; set PETL_CACHE to a folder with space"
            ) from error
        with FileLock(f"{folder}.lock"):  # another process may be decoding the same pictures
            if not array_pack.is_pack(folder):
                array_pack.write(folder, {"all": _decoded(name, entries, size, crop)}, {"name": name, "crop": crop})
    part = array_pack.read(folder).splits["all"]
    index = json.loads((folder / array_pack.INDEX).read_text(encoding="utf-8"))
    return Packed(part.images, part.labels, tuple(part.ids.tolist()), index["files"]["all_images.npy"]["sha256"])


def _decoded(name: str, entries: Sequence[Listed], size: int, crop: bool) -> Iterator[array_pack.Sample]:
    """The pictures in their order, the next few decoded meanwhile."""

    def decode(entry: Listed) -> np.ndarray:
        picture = entry.source() if callable(entry.source) else to_rgb(open_image(entry.source))
        return to_square(picture, size, crop).transpose(1, 2, 0)

    waiting: deque[tuple[Listed, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            for entry in progress_bar(entries, f"decoding {name}"):
                waiting.append((entry, pool.submit(decode, entry)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield future.result(), first.label, first.id
            for first, future in waiting:
                yield future.result(), first.label, first.id
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def packed_task(
    name: str,
    group: str,
    classes: tuple[str, ...],
    parts: Sequence[Packed],
    splits: dict[str, np.ndarray],
    allowed: dict[str, np.ndarray] | None = None,
) -> Task:
    """A Task of packs laid end to end; ``splits`` are train800, val200, test and any others, as indices into them all.

    ``allowed``: for each split that holds some of the classes only, which (``Task.restrict``)."""
    labels = np.concatenate([part.labels for part in parts])
    ids = tuple(key for part in parts for key in part.ids)
    allowed = allowed or {}
    total = hashlib.blake2b(digest_size=16)
    for text in (*classes, *ids, *splits, *allowed, *(part.digest for part in parts)):
        total.update(text.encode() + b"\0")
    for array in (labels, *splits.values(), *allowed.values()):
        total.update(np.ascontiguousarray(array, dtype="<i8").data)
        total.update(b"|")
    held = dict(splits)
    held["train1000"] = np.concatenate([splits["train800"], splits["val200"]])
    order = (*SPLITS, *(key for key in splits if key not in SPLITS))
    return Task(
        name=name,
        group=group,
        classes=classes,
        images=cast("Tensor", Mapped([part.images for part in parts])),
        labels=torch.from_numpy(labels.astype(np.int64)),
        ids=ids,
        splits={key: torch.from_numpy(held[key].astype(np.int64)) for key in order},
        digest=total.hexdigest(),
        allowed={key: torch.from_numpy(index.astype(np.int64)) for key, index in allowed.items()},
    )


def cached_listing(key: str, find: Callable[[], list[list[Any]]]) -> list[list[Any]]:
    """What ``find`` gives (JSON values), kept in the cache: walking through a million files takes minutes."""
    path = cache_folder() / "lists" / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = find()
        write_atomic(path, json.dumps(found).encode(), make_folder=True)
        return found
