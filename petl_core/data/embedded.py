"""The embedded suite as files: build it, check it against what is shipped, load a task.

A file holds the samples in the order train (800), val (200), test (1,000). What the tasks are is in
``petl_core.data.suite``; how pixels are stored, in ``petl_core.data.codec``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from petl_core.data import codec
from petl_core.data.suite import COUNTS, SIZE, EmbeddedTask, embedded_tasks
from petl_core.data.suite.draw import Draw
from petl_core.data.task import GROUPS, Task, make_task
from petl_core.errors import UserError
from petl_core.paths import EMBEDDED

ARRAYS = ("labels", "meta", "residuals", "split")
FORMAT = 1


def embedded_names(group: str | None = None) -> list[str]:
    """The tasks of the embedded suite, of one group or of all."""
    if group is not None and group not in GROUPS:
        raise UserError(f"unknown group {group!r}; the groups are {', '.join(GROUPS)}")
    return [task.name for task in embedded_tasks().values() if group in (None, task.group)]


def find_embedded(name: str) -> EmbeddedTask:
    """The registry's entry; UserError with the nearest names and the whole list where there is none."""
    tasks = embedded_tasks()
    if name in tasks:
        return tasks[name]
    close = difflib.get_close_matches(name, tasks, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UserError(
        f"unknown task {name!r}.{hint} Embedded tasks: {', '.join(tasks)}; and world. "
        "Your own images: folder:<path>, vtab:<folder>/<name>, or vtab1k/<name> with PETL_DATA set."
    )


def balanced_labels(task: EmbeddedTask, split: str) -> np.ndarray:
    """Labels of a split, (n,), every class equally often (or once more), in a fixed random order."""
    count = COUNTS[split]
    order = Draw(f"{task.name} labels", split, 0, 0).order(count)
    return (np.arange(count) % len(task.classes))[order].astype(np.uint8)


def sample_split(task: EmbeddedTask, split: str, only: Iterable[int] | None = None) -> np.ndarray:
    """Levels (n, P, 32, 32) of a split, or of ``only`` some of its samples; P is 3 for colour, else 1."""
    labels = balanced_labels(task, split)
    levels = []
    for index in range(len(labels)) if only is None else only:
        number = int((labels[:index] == labels[index]).sum())
        picture = task.sample(Draw(task.name, split, index, number), int(labels[index]))
        expected = (SIZE, SIZE, 3) if task.colour == "colour" else (SIZE, SIZE)
        if picture.shape != expected:
            raise ValueError(f"task {task.name!r} drew a sample of shape {picture.shape}; it must be {expected}")
        levels.append(codec.quantise(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
    return np.stack(levels)


def sample_tints(task: EmbeddedTask, split: str) -> np.ndarray:
    """The dark and the light colour of each sample of a tinted task, uint8 (n, 2, 3)."""
    values = Draw(f"{task.name} tints", split, 0, 0).array((COUNTS[split], 2, 3))
    return np.floor(np.stack([values[:, 0] * 90, 165 + values[:, 1] * 90], axis=1)).astype(np.uint8)


def task_arrays(task: EmbeddedTask) -> dict[str, np.ndarray]:
    """Everything a task's file holds."""
    meta = {"format": FORMAT, "name": task.name, "group": task.group, "classes": task.classes, "colour": task.colour}
    arrays = {
        "meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8),
        "labels": np.concatenate([balanced_labels(task, split) for split in COUNTS]),
        "split": np.concatenate([np.full(count, i, dtype=np.uint8) for i, count in enumerate(COUNTS.values())]),
        "residuals": codec.encode(np.concatenate([sample_split(task, split) for split in COUNTS])),
    }
    if task.colour == "tinted":
        arrays["tints"] = np.concatenate([sample_tints(task, split) for split in COUNTS])
    return arrays


def load_embedded(name: str, folder: Path = EMBEDDED) -> Task:
    """A task of the suite from its file: 32 px, uint8."""
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
        images = codec.tinted(levels, arrays["tints"]) if meta["colour"] == "tinted" else codec.intensities(levels)
        if images.shape[1] == 1:
            images = np.repeat(images, 3, axis=1)
        parts = [np.flatnonzero(arrays["split"] == i) for i in range(3)]
        ids = tuple(
            f"{name}/{split}/{i:04d}" for split, part in zip(COUNTS, parts, strict=True) for i in range(len(part))
        )
        return make_task(name, meta["group"], tuple(meta["classes"]), images, arrays["labels"], ids, *parts)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a task file of this suite ({type(error).__name__}: {error}); rebuild it"
        ) from error


def build(
    out: Path, check: bool = False, names: Iterable[str] | None = None, progress: Callable[[str], None] | None = print
) -> list[str]:
    """Draw the suite into ``out``: one ``<task>.npz`` each, the data card README.md and examples.png.

    With ``check``, nothing but a comparison: ``out`` must already hold the files; the names of the tasks that come out
    different are returned. Equal means equal bytes, or equal arrays where another lzma library packed them differently.
    """
    from petl_core.data import card

    out = Path(out)
    say = progress or (lambda _: None)
    different = []
    chosen = [find_embedded(name) for name in names] if names is not None else list(embedded_tasks().values())
    for task in chosen:
        started = time.perf_counter()
        arrays = task_arrays(task)
        content = codec.npz_bytes(arrays)
        path = out / f"{task.name}.npz"
        if check:
            state = compare(path, arrays, content)
            different += [task.name] * (state == "different")
        else:
            codec.write_file(path, content)
            state = "written"
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        say(f"{task.name:14s} {len(content) / 1e6:5.2f} MB  {digest}  {time.perf_counter() - started:5.1f} s  {state}")
    if not check:
        card.write(out)
    return different


def compare(path: Path, arrays: dict[str, np.ndarray], content: bytes) -> str:
    """How a file stands to what was drawn: "identical bytes", "equal arrays" or "different"."""
    shipped = codec.read_npz(path, ())
    if path.read_bytes() == content:
        return "identical bytes"
    same = shipped.keys() == arrays.keys() and all(np.array_equal(shipped[key], arrays[key]) for key in arrays)
    return "equal arrays" if same else "different"
