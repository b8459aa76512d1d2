"""Tasks too large for memory: their images are decoded once into packs in the user's cache, and mapped from there.

100,000 images at 224 pixels are 15 GB of bytes. ``packed`` decodes them with a few threads into an uncompressed pack
(``array_pack``), which is there whole or not at all; every process that loads the task maps the same file, so the
system's page cache holds it once. ``Task.images`` is then a ``Mapped``, of which only the rows asked for are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from petl_core.data import array_pack
from petl_core.data.decode import PLAIN, SHORT_SIDE, Preparation, prefetched, refuse_truncated, to_square
from petl_core.data.task import Task, in_a_row, with_train1000
from petl_core.utils import UserError, cache_folder, progress_bar, write_atomic

FORMAT = 1
IN_MEMORY = 500_000_000  # bytes of a task's images


@dataclass(frozen=True)
class Listed:
    """One picture: its name in the task, its label, something that changes when its file does, and how to get it."""

    id: str
    label: int
    mark: str
    source: Any  # a path, or a function () -> PIL image


def file_entry(root: Path, path: Path, label: int) -> Listed:
    """A file, named by its path below ``root``; its size is its mark."""
    try:
        return Listed(path.relative_to(root).as_posix(), label, str(path.stat().st_size), path)
    except OSError as error:
        raise UserError(f"image {path} cannot be read ({error.strerror}); unpack the data set again") from error


class Mapped:
    """Several arrays uint8 (n_i, S, S, 3), mapped from files, seen as one tensor (M, 3, S, S): it can be indexed on
    its first axis, and gives a new tensor of the rows asked for."""

    dtype = torch.uint8

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = arrays
        _, height, width, channels = arrays[0].shape
        self.nbytes = sum(array.nbytes for array in arrays)
        self.shape = torch.Size((sum(len(array) for array in arrays), channels, height, width))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        rows = np.arange(len(self))[index.numpy() if isinstance(index, Tensor) else index]
        if rows.ndim == 0:
            return self[torch.from_numpy(rows[None])][0]
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        start = 0
        for array in self.arrays:
            here = np.flatnonzero((rows >= start) & (rows < start + len(array)))
            out[here] = array[rows[here] - start].transpose(0, 3, 1, 2)
            start += len(array)
        return torch.from_numpy(out)


@dataclass(frozen=True)
class Packed:
    """The pictures of a list, decoded: uint8 (n, S, S, 3), mapped; their labels and ids; and a digest of the pixels."""

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    digest: str


def packed(name: str, entries: Sequence[Listed], size: int, prepare: Preparation = PLAIN) -> Packed:
    """Decode pictures into a pack of the cache, or find them there; ``name`` is part of the folder's name.

    ``prepare``: how squares are made of pictures. Another list, size or way is another pack. UserError
    naming the file that is damaged, or where the disk is too small; then there is no pack.
    """
    total = hashlib.sha256(json.dumps([FORMAT, size, vars(prepare), round(size * SHORT_SIDE)]).encode())
    for entry in entries:
        total.update(f"{entry.id}\0{entry.label}\0{entry.mark}\n".encode())
    folder = cache_folder() / "packs" / f"{name}-{size}px-{total.hexdigest()[:16]}"
    if not array_pack.is_pack(folder):
        if not _writable(folder.parent) and len(entries) * 3 * size * size <= IN_MEMORY:
            return _in_memory(entries, size, prepare)
        _write(folder, name, entries, size, prepare)
    pack = array_pack.read(folder)
    part = pack.splits["all"]
    return Packed(part.images, part.labels, tuple(part.ids.tolist()), pack.files["all_images.npy"]["sha256"])


def _writable(folder: Path) -> bool:
    """Can files be written to this folder, which is made if it is not there?"""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _decoded(
    name: str, entries: Sequence[Listed], size: int, prepare: Preparation
) -> Iterator[tuple[Listed, np.ndarray]]:
    """Each entry with its square, uint8 (size, size, 3)."""

    def decode(entry: Listed) -> np.ndarray:
        if callable(entry.source):
            return to_square(entry.source(), size, prepare.resize).transpose(1, 2, 0)
        return prepare.square(entry.source, size).transpose(1, 2, 0)

    refuse_truncated()
    return prefetched(progress_bar(entries, f"decoding {name}"), decode)


def _in_memory(entries: Sequence[Listed], size: int, prepare: Preparation) -> Packed:
    """What a pack would hold, where there is no place for one. The digest is that of the pack's file."""
    images = np.stack([image for _, image in _decoded("images", entries, size, prepare)])
    total = hashlib.sha256()
    np.lib.format.write_array(types.SimpleNamespace(write=total.update), images, allow_pickle=False)
    labels = np.array([entry.label for entry in entries], dtype=np.int64)
    return Packed(images, labels, tuple(entry.id for entry in entries), total.hexdigest())


def _write(folder: Path, name: str, entries: Sequence[Listed], size: int, prepare: Preparation) -> None:
    """Decode the pictures, in their order, into a pack."""
    array_pack.demand_space(folder, len(entries) * size * size * 3)
    if not _writable(folder.parent):
        raise UserError(f"cannot write to {folder.parent}; set PETL_CACHE to a folder with space")
    with FileLock(f"{folder}.lock"):  # another process may be decoding the same pictures
        if not array_pack.is_pack(folder):
            decoded = _decoded(name, entries, size, prepare)
            samples = ((image, entry.label, entry.id) for entry, image in decoded)
            array_pack.write(folder, {"all": samples}, {"name": name, "preparation": vars(prepare)})


def packed_task(
    name: str,
    group: str,
    classes: tuple[str, ...],
    *,
    parts: Sequence[Packed],
    splits: Mapping[str, int],
    allowed: Mapping[str, np.ndarray] | None = None,
) -> Task:
    """A Task of packs laid end to end; ``splits``: how many of the images, one split after the other, are train800,
    val200, test and any others.

    What fits into ``IN_MEMORY`` is read into a tensor. ``allowed``: for each split that holds some of the classes only,
    which (``Task.restrict``)."""
    labels = np.concatenate([part.labels for part in parts])
    ids = tuple(key for part in parts for key in part.ids)
    indices, allowed = in_a_row(splits), allowed or {}
    images = Mapped([part.images for part in parts])
    total = hashlib.blake2b(digest_size=16)
    for text in (*classes, *ids, *splits, *allowed, *(part.digest for part in parts)):
        total.update(text.encode() + b"\0")
    for array in (labels, *indices.values(), *allowed.values()):
        total.update(np.ascontiguousarray(array, dtype="<i8").data)
        total.update(b"|")
    return Task(
        name=name,
        group=group,
        classes=classes,
        images=images[:] if images.nbytes <= IN_MEMORY else cast("Tensor", images),
        labels=torch.from_numpy(labels.astype(np.int64)),
        ids=ids,
        splits={key: torch.from_numpy(index) for key, index in with_train1000(indices).items()},
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
