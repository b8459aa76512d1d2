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
from petl_core.data.task import GIVEN, GROUPS, Counts, Task, make_task
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
SPLIT_OF = {"train": "train800", "val": "val200"}  # what a part of a file is called in a task


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


def known_digest(name: str) -> str | None:
    """The digest of an embedded task as ``tasks.json`` has it, by which a study is planned without reading an image.

    None for tasks of other kinds, and for numbers of training images whose digest is not written down."""
    task = embedded_tasks().get(name.partition("@")[0])
    return None if task is None else task.digests.get(name)


@functools.cache
def known_weights(backbone: str) -> str | None:
    """The digest of the weights of an embedded backbone as ``tasks.json`` has it; None for other backbones."""
    try:
        found = json.loads((EMBEDDED / "tasks.json").read_text(encoding="utf-8"))["weights"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{EMBEDDED / 'tasks.json'} is absent or damaged ({error}); restore it with git") from error
    return found.get(backbone)


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
    """The task ``<embedded task>`` or ``<embedded task>@<training images>`` from its file: 32 px, uint8.

    ``UserError`` for a task or a number that there cannot be, for a damaged file, and for images that have not been
    drawn yet."""
    base, at, _ = name.partition("@")
    find_embedded(base)
    count = find_amount(name)[1] if at else SHIPPED
    task = _shipped(base, folder)
    return _with_amount(name, task, count) if at else task


def _shipped(name: str, folder: Path) -> Task:
    path = Path(folder) / f"{name}.npz"
    arrays = codec.read_npz(path, ARRAYS)
    try:
        meta = json.loads(arrays["meta"].tobytes())
        if meta["format"] != FORMAT:
            raise UserError(
                f"{path} has format {meta['format']}, this version reads {FORMAT}; update petl_core or rebuild"
            )
        images = _coloured(arrays | {"levels": codec.decode(arrays["residuals"])}, meta["colour"])
        parts = WORLD_COUNTS if name == WORLD else COUNTS
        splits = {part: np.flatnonzero(arrays["split"] == number) for number, part in enumerate(parts)}
        ids = []
        for part, index in splits.items():
            numbers = arrays.get(f"{part}_numbers", range(len(index)))
            ids += [f"{name}/{part}/{number:04d}" for number in numbers]
        return make_task(
            name,
            meta["group"],
            tuple(meta["classes"]),
            images=images,
            labels=arrays["labels"],
            ids=tuple(ids),
            splits={SPLIT_OF.get(part, part): index for part, index in splits.items()},
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a task file of this suite ({type(error).__name__}: {error}); rebuild it"
        ) from error


def _coloured(arrays: dict[str, np.ndarray], colour: str) -> np.ndarray:
    """Levels (n, P, S, S) and, for a tinted task, tints (n, 2, 3) to uint8 images (n, 3, S, S)."""
    if colour == "tinted":
        return codec.tinted(arrays["levels"], arrays["tints"])
    images = codec.intensities(arrays["levels"])
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images


def parts_of_name(name: str) -> tuple[str, int]:
    """The embedded task and the number of training images that a task's name means; without "@", the shipped ones."""
    base, _, count = name.partition("@")
    return base, int(count or SHIPPED)


def validation_images(count: int) -> int:
    """How many of ``count`` training images are for validation: a fifth, at most 200."""
    return min(COUNTS["val"], round(count / 5))


def counts(name: str) -> Counts:
    """Images and classes of an embedded task, by its name; of a name that there is not, VTAB-1K's numbers."""
    base, _, amount = name.partition("@")
    task = embedded_tasks().get(base)
    classes = len(task.classes) if task else Counts.classes
    if base == WORLD:
        return Counts(classes=classes, more=sum(WORLD_COUNTS[split] for split in SHIFTS))
    count = int(amount) if amount.isdecimal() else SHIPPED
    val = validation_images(count)
    return Counts(count - val, val, classes=classes)


def find_amount(name: str) -> tuple[str, int]:
    """The task and the number of training images in a name; ``UserError`` where there cannot be such."""
    base, _, text = name.partition("@")
    find_embedded(base)
    if base == WORLD:
        raise UserError(f"{name!r}: the rendered world exists with 1,000 training images only; write {WORLD!r}")
    if not text.isdecimal() or not FEWEST <= int(text) <= MOST:
        raise UserError(f"{name!r}: the number of training images is {text!r}; it must be from {FEWEST} to {MOST:,}")
    if int(text) > SHIPPED and base in LIMITED:
        raise UserError(f"{name!r}: {LIMITED[base]}; this task has at most {SHIPPED:,} training images")
    return base, int(text)


def _with_amount(name: str, shipped: Task, count: int) -> Task:
    """The shipped task with ``count`` training images instead of its own."""
    n_val = validation_images(count)
    images, labels, ids = shipped.images.numpy(), shipped.labels.numpy(), shipped.ids
    train, val, test = (shipped.splits[split].numpy() for split in GIVEN)
    train = train[in_turn(labels[train])][: count - n_val]
    val = val[in_turn(labels[val])][:n_val]
    more = count - n_val - len(train)
    if more > 0:
        further = _further(name, more)
        train = np.concatenate([train, len(labels) + np.arange(more)])
        images = np.concatenate([images, _coloured(further, find_embedded(shipped.name).colour)])
        labels = np.concatenate([labels, further["labels"].astype(np.int64)])
        ids = (*ids, *(f"{shipped.name}/train/{COUNTS['train'] + i:05d}" for i in range(more)))
    splits = {"train800": train, "val200": val, "test": test}
    return make_task(name, shipped.group, shipped.classes, images=images, labels=labels, ids=ids, splits=splits)


def in_turn(labels: np.ndarray) -> np.ndarray:
    """The order of samples in which the classes come in turn, so that the first of them are balanced."""
    rank = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    return np.lexsort((labels, rank))


def block_path(name: str, block: int) -> Path:
    """Where the further training images number ``block * BLOCK`` and on of a task lie."""
    return cache_folder() / f"suite{FORMAT}-{name}-{block:02d}.npz"


def read_block(path: Path) -> dict[str, np.ndarray]:
    """A file of further training images: levels (BLOCK, P, S, S), labels (BLOCK,), tints (BLOCK, 2, 3). ``UserError``
    where it is absent, damaged or not whole."""
    arrays = codec.read_npz(path, ("levels", "tints", "labels"))
    if arrays["levels"].shape[::2] != (BLOCK, SIZE) or len(arrays["labels"]) != BLOCK:
        raise UserError(f"{path} holds other counts than {BLOCK} images of {SIZE} pixels")
    return arrays


def demand_drawn(name: str) -> None:
    """``UserError`` unless the further training images that the name of an embedded task asks for lie in the cache.
    Nothing is read; names of other tasks pass."""
    base, _, amount = name.partition("@")
    if base in embedded_tasks() and amount.isdecimal():
        for block in range(-(-max(0, int(amount) - SHIPPED) // BLOCK)):
            if not block_path(base, block).is_file():
                raise _undrawn(name, block_path(base, block))


def _undrawn(name: str, path: Path) -> UserError:
    state = "is damaged" if path.is_file() else "does not exist"
    return UserError(
        f"{path}, which holds further training images of {name!r}, {state}; draw them once, some seconds for each "
        f"thousand: python -m petl_make suite --more {name}"
    )


def _further(name: str, count: int) -> dict[str, np.ndarray]:
    """The arrays of the first ``count`` training images after the shipped ones."""
    blocks = []
    for path in (block_path(parts_of_name(name)[0], block) for block in range(-(-count // BLOCK))):
        try:
            blocks.append(read_block(path))
        except UserError as error:
            raise _undrawn(name, path) from error
    return {key: np.concatenate([block[key] for block in blocks])[:count] for key in ("levels", "tints", "labels")}
