"""Embedded tasks: the suite of eleven drawn tasks and the rendered world, read from the files in ``data/embedded``.

``tasks.json`` there says what each task is and gives its digest, so that a study is planned without reading an image.
``petl_make`` writes these files; nothing here draws.

A name may ask for another number of training images: "orientation@10000", "textures@100". Validation is then a fifth of
the training images, at most 200; the test images stay; and the training images of a smaller task are the first of a
larger one's. Images beyond the shipped thousand lie in the user's cache, where they are drawn by
``python -m petl_make suite --more``.

The world is about one style of picture, ``photo``, and has four more splits that stand for ImageNet's shifts:
``v2`` (things a little smaller and turned more), ``renditions`` (eight other styles), ``sketch`` (line drawings) and
``hard`` (pictures of the target's style that another model gets wrong).
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petl_core.data import codec
from petl_core.data.task import GROUPS, Task, make_task
from petl_core.utils import EMBEDDED, UserError, cache_folder

ARRAYS = ("labels", "meta", "residuals", "split")
FORMAT = 1
SIZE = 32  # pixels along one side
COUNTS = {"train": 800, "val": 200, "test": 1000}
SHIPPED = COUNTS["train"] + COUNTS["val"]
BLOCK = 1000  # further training images in one file of the cache
FEWEST, MOST = 50, 20_000
LIMITED = {"digits": "there are no more than 1,797 digits", "science": "it has one or two source images a class"}
WORLD = "world"
SHIFTS = ("v2", "renditions", "sketch", "hard")
WORLD_COUNTS = COUNTS | dict.fromkeys(SHIFTS, 1000)


@dataclass(frozen=True)
class EmbeddedTask:
    """A row of ``tasks.json``. ``digests``: of the task as shipped and with other numbers of training images."""

    name: str
    group: str
    classes: tuple[str, ...]
    description: str
    source: str
    licence: str
    colour: str  # "grey"; "tinted" (grey, then two random colours); or "colour"
    digests: dict[str, str]


@functools.cache
def embedded_tasks(folder: Path = EMBEDDED) -> dict[str, EmbeddedTask]:
    """All embedded tasks by name: the suite's by group and alphabet, then the world. ``UserError`` without the file."""
    path = Path(folder) / "tasks.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        tasks = [EmbeddedTask(**{**row, "classes": tuple(row["classes"])}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is absent or damaged ({error}); restore it with `git checkout`") from error
    return {task.name: task for task in tasks}


def embedded_names(group: str | None = None) -> list[str]:
    """The tasks of the embedded suite, of one group or of all."""
    if group is not None and group not in GROUPS:
        raise UserError(f"unknown group {group!r}; the groups are {', '.join(GROUPS)}")
    return [task.name for task in embedded_tasks().values() if task.name != WORLD and group in (None, task.group)]


def find_embedded(name: str) -> EmbeddedTask:
    """The row of an embedded task; UserError with the nearest names and the whole list where there is none."""
    tasks = embedded_tasks()
    if name in tasks:
        return tasks[name]
    close = difflib.get_close_matches(name, tasks, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UserError(
        f"unknown task {name!r}.{hint} Embedded tasks: {', '.join(tasks)}. "
        "Your own images: folder:<path>, vtab:<folder>/<name>, or vtab1k/<name> with PETL_DATA set."
    )


def load_embedded(name: str, folder: Path = EMBEDDED) -> Task:
    """An embedded task from its file: 32 px, uint8."""
    find_embedded(name)
    path = Path(folder) / f"{name}.npz"
    arrays = codec.read_npz(path, ARRAYS)
    try:
        meta = json.loads(arrays["meta"].tobytes())
        if meta["format"] != FORMAT:
            raise UserError(
                f"{path} has format {meta['format']}, this version reads {FORMAT}; update petl_core or rebuild"
            )
        levels = codec.decode(arrays["residuals"])
        images = _coloured(levels, arrays["tints"] if meta["colour"] == "tinted" else None)
        parts = {split: np.flatnonzero(arrays["split"] == i) for i, split in enumerate(_counts(name))}
        numbers = {split: arrays.get(f"{split}_numbers", range(len(part))) for split, part in parts.items()}
        ids = tuple(f"{name}/{split}/{i:04d}" for split in parts for i in numbers[split])
        return make_task(name, meta["group"], tuple(meta["classes"]), images, arrays["labels"], ids, **parts)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a task file of this suite ({type(error).__name__}: {error}); rebuild it"
        ) from error


def _counts(name: str) -> dict[str, int]:
    return WORLD_COUNTS if name == WORLD else COUNTS


def _coloured(levels: np.ndarray, tints: np.ndarray | None) -> np.ndarray:
    """Levels (n, P, S, S) to uint8 images (n, 3, S, S)."""
    images = codec.intensities(levels) if tints is None else codec.tinted(levels, tints)
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images


def parts_of_name(name: str) -> tuple[str, int]:
    """The embedded task and the number of training images that a task's name means; without "@", the shipped ones."""
    base, _, count = name.partition("@")
    return base, int(count or SHIPPED)


def validation_images(count: int) -> int:
    """How many of ``count`` training images are for validation: a fifth, at most 200."""
    return min(COUNTS["val"], round(count / 5))


def load_amount(name: str) -> Task:
    """The task ``<embedded task>@<training images>``. ``UserError`` for a task or a number that there cannot be, and
    for images that have not been drawn yet."""
    base, _, text = name.partition("@")
    find_embedded(base)
    if base == WORLD:
        raise UserError(f"{name!r}: the rendered world exists with 1,000 training images only; write {WORLD!r}")
    if not text.isdecimal() or not FEWEST <= int(text) <= MOST:
        raise UserError(f"{name!r}: the number of training images is {text!r}; it must be from {FEWEST} to {MOST:,}")
    count, small = int(text), load_embedded(base)
    if count > SHIPPED and base in LIMITED:
        raise UserError(f"{name!r}: {LIMITED[base]}; this task has at most {SHIPPED:,} training images")
    train, val, test = (small.splits[split].numpy() for split in ("train800", "val200", "test"))
    n_val = validation_images(count)
    train = _in_turn(train, small.labels.numpy()[train])[: count - n_val]
    val = _in_turn(val, small.labels.numpy()[val])[:n_val]
    images, labels, ids = small.images.numpy(), small.labels.numpy(), small.ids
    more = count - n_val - len(train)
    if more > 0:
        drawn, drawn_labels = _further(base, more)
        train = np.concatenate([train, len(labels) + np.arange(more)])
        images, labels = np.concatenate([images, drawn]), np.concatenate([labels, drawn_labels])
        ids = (*ids, *(f"{base}/train/{COUNTS['train'] + i:05d}" for i in range(more)))
    return make_task(name, small.group, small.classes, images, labels, ids, train=train, val=val, test=test)


def _in_turn(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The samples with their classes in turn, so that the first of them are balanced."""
    rank = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    return index[np.lexsort((labels, rank))]


def block_path(name: str, block: int) -> Path:
    """Where the further training images number ``block * BLOCK`` and on of a task lie."""
    return cache_folder() / f"suite{FORMAT}-{name}-{block:02d}.npz"


def _further(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` training images after the shipped ones, uint8 (count, 3, 32, 32), and their labels."""
    blocks = [_block(name, block) for block in range(-(-count // BLOCK))]
    arrays = {key: np.concatenate([block[key] for block in blocks])[:count] for key in ("levels", "tints", "labels")}
    tinted = find_embedded(name).colour == "tinted"
    return _coloured(arrays["levels"], arrays["tints"] if tinted else None), arrays["labels"].astype(np.int64)


def _block(name: str, block: int) -> dict[str, np.ndarray]:
    path = block_path(name, block)
    try:
        arrays = codec.read_npz(path, ("levels", "tints", "labels"))
        if arrays["levels"].shape[::2] != (BLOCK, SIZE) or len(arrays["labels"]) != BLOCK:
            raise UserError(f"{path} holds other counts")
    except UserError as error:
        raise UserError(
            f"the further training images of {name!r} are not there ({path.name}); draw them once, a minute for each "
            f"thousand: python -m petl_make suite --more {name}@10000"
        ) from error
    return arrays
