"""Embedded tasks with another number of training images: "orientation@10000", "textures@100".

Validation is a fifth of the training images, at most 200; the test images are those of the embedded task; and the
training images of a smaller task are the first of a larger one's. Images beyond the shipped thousand are drawn when
first asked for, by the same code from the same chance as the suite's, and kept in the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from petl_core.data import codec
from petl_core.data.embedded import FORMAT, find_embedded, load_embedded
from petl_core.data.suite import COUNTS, SIZE, EmbeddedTask
from petl_core.data.suite.draw import Draw
from petl_core.data.task import Task, make_task
from petl_core.errors import UserError

FEWEST, MOST = 50, 20_000
LIMITED = {"digits": "there are no more than 1,797 digits", "science": "it has one or two source images a class"}


def cache_folder() -> Path:
    """Where drawn images are kept: ``PETL_CACHE``, or petl_core in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PETL_CACHE") or Path(base) / "petl_core")


def parts_of_name(name: str) -> tuple[str, int]:
    """The embedded task and the number of training images that a task's name means; without "@", the shipped ones."""
    base, _, count = name.partition("@")
    return base, int(count or COUNTS["train"] + COUNTS["val"])


def load_many(name: str) -> Task:
    """The task ``<embedded task>@<training images>``. ``UserError`` for a task or a number that there cannot be."""
    base, _, text = name.partition("@")
    task = find_embedded(base)
    if not text.isdecimal() or not FEWEST <= int(text) <= MOST:
        raise UserError(f"{name!r}: the number of training images is {text!r}; it must be from {FEWEST} to {MOST:,}")
    count, small = int(text), load_embedded(base)
    shipped = COUNTS["train"] + COUNTS["val"]
    if count > shipped and base in LIMITED:
        raise UserError(f"{name!r}: {LIMITED[base]}; this task has at most {shipped:,} training images")
    train, val, test = (small.splits[split].numpy() for split in ("train800", "val200", "test"))
    n_val = min(len(val), round(count / 5))
    train = _in_turn(train, small.labels.numpy()[train])[: count - n_val]
    val = _in_turn(val, small.labels.numpy()[val])[:n_val]
    images, labels, ids = small.images.numpy(), small.labels.numpy(), small.ids
    more = count - n_val - len(train)
    if more > 0:
        drawn, drawn_labels = extra(task, more)
        train = np.concatenate([train, len(labels) + np.arange(more)])
        images, labels = np.concatenate([images, drawn]), np.concatenate([labels, drawn_labels])
        ids = (*ids, *(f"{base}/train/{COUNTS['train'] + i:05d}" for i in range(more)))
    return make_task(name, small.group, small.classes, images, labels, ids, train, val, test)


def _in_turn(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The samples with their classes in turn, so that the first of them are balanced."""
    rank = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    return index[np.lexsort((labels, rank))]


def extra(task: EmbeddedTask, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` training images after the shipped ones, uint8 (count, 3, 32, 32), and their labels.

    Drawn in blocks of 1,000, each kept in a file of ``cache_folder``; one that is damaged is drawn again.
    """
    blocks = range(-(-count // 1000))
    parts = [_block(task, block) for block in tqdm(blocks, desc=f"drawing {task.name}", leave=False, delay=2)]
    levels, tints, labels = (
        np.concatenate([part[key] for part in parts])[:count] for key in ("levels", "tints", "labels")
    )
    images = codec.tinted(levels, tints) if task.colour == "tinted" else codec.intensities(levels)
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images, labels.astype(np.int64)


def _block(task: EmbeddedTask, block: int) -> dict[str, np.ndarray]:
    path = cache_folder() / f"suite{FORMAT}-{task.name}-{block:02d}.npz"
    planes = 3 if task.colour == "colour" else 1
    try:
        arrays = codec.read_npz(path, ("levels", "tints", "labels"))
        if arrays["levels"].shape == (1000, planes, SIZE, SIZE) and len(arrays["labels"]) == 1000:
            return arrays
    except UserError:
        pass
    arrays = draw_block(task, block)
    codec.write_file(path, codec.npz_bytes(arrays))
    return arrays


def draw_block(task: EmbeddedTask, block: int) -> dict[str, np.ndarray]:
    """1,000 further training samples: levels (1000, P, 32, 32), labels, and tints (1000, 2, 3) for tinted tasks."""
    order = Draw(f"{task.name} labels", "train", 1 + block, 0).order(1000)
    labels = (np.arange(1000) % len(task.classes))[order].astype(np.uint8)
    start = COUNTS["train"] + 1000 * block
    levels = []
    for i, label in enumerate(labels.tolist()):
        picture = task.sample(Draw(task.name, "train", start + i, start + i), label)
        levels.append(codec.quantise(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
    values = Draw(f"{task.name} tints", "train", 1 + block, 0).array((1000, 2, 3))
    tints = np.floor(np.stack([values[:, 0] * 90, 165 + values[:, 1] * 90], axis=1)).astype(np.uint8)
    return {"levels": np.stack(levels), "labels": labels, "tints": tints}
