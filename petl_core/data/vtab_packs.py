"""A task from a pack that ``petl_make.vtab`` made: the same Task as from the images it was made of."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.decode import to_square
from petl_core.data.folder import LISTS, demand_classes, group_of
from petl_core.data.task import Task, make_task
from petl_core.utils import UserError


def load_pack(folder: Path, size: int) -> Task:
    """The task in a pack, its images at ``size`` pixels.

    Every byte is compared with the checksums first. Sample ids are the pack's: the files' paths if it was made from a
    folder, which then gives the same digest as the folder does; split and position in the source, such as
    "train/002754", if it was made through tensorflow-datasets or from the Hub. UserError where the pack is damaged, is
    none of VTAB-1K's form, or holds images that were resized to another size: these are not resized again.
    """
    pack = array_pack.verify(folder)
    if set(pack.splits) != set(LISTS) or "classes" not in pack.meta:
        raise UserError(f"{folder} is a pack of something else: its splits are {', '.join(pack.splits)}")
    resized = pack.meta.get("resized_to")
    if resized not in (None, size):
        raise UserError(
            f"the images of {folder} were resized to {resized} pixels when it was made, and {size} are asked for; ask "
            f"for {resized}, or make it anew: python -m petl_make vtab --size {size}"
        )
    parts = [pack.splits[split] for split in LISTS]
    names = tuple(pack.meta["classes"])
    ends = np.cumsum([len(part.labels) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    demand_classes(folder, names, labels, int(ends[1]))
    images = np.empty((len(labels), 3, size, size), dtype=np.uint8)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for part, end in zip(parts, ends, strict=True):
            into = images[end - len(part.labels) : end]
            list(pool.map(lambda i, part=part, into=into: _fill(into[i], part.images[i]), range(len(into))))
    ids = tuple(str(name) for part in parts for name in part.ids)
    train, val, test = np.split(np.arange(len(labels)), ends[:2])
    return make_task(f"vtab:{folder.name}", group_of(folder.name), names, images, labels, ids, train, val, test)


def _fill(into: np.ndarray, image: np.ndarray) -> None:
    """``image`` (height, width, 1 or 3) into ``into`` (3, size, size)."""
    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    into[:] = to_square(picture, into.shape[-1])
