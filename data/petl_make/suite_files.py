"""The embedded suite as files: draw it, check it against what is shipped, and draw further training images.

A file holds the samples in the order train (800), val (200), test (1,000). What the tasks are is in
``petl_make.suite``; how pixels are stored, in ``petl_core.data.codec``; reading, in ``petl_core.data.embedded``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.data.embedded import (
    BLOCK,
    COUNTS,
    FORMAT,
    SHIPPED,
    SIZE,
    WORLD,
    block_path,
    find_amount,
    find_embedded,
    load_embedded,
    read_block,
)
from petl_core.models import weights as backbones
from petl_core.utils import EMBEDDED, UserError, progress_bar, write_atomic
from petl_make import card, command_line, say
from petl_make import codec as encoder
from petl_make.suite import EmbeddedTask, embedded_tasks
from petl_make.suite.draw import Draw
from petl_make.world.scenes import CLASSES

AMOUNTS = ("textures@100", "textures@10000", "orientation@100", "orientation@10000")  # whose digests are written down
FIELDS = ("name", "group", "classes", "description", "source", "licence", "colour")  # of a row of tasks.json
WORLD_ROW = {
    "name": WORLD,
    "group": "other",
    "classes": CLASSES,
    "description": "twenty rendered things in the style photo, with shifted test sets",
    "source": "drawn by this project",
    "licence": "MIT, as this project",
    "colour": "colour",
}


def balanced_labels(task: EmbeddedTask, split: str, count: int, block: int = 0) -> np.ndarray:
    """Labels of a split or of a block of further samples, (n,), every class equally often (or once more), in a fixed
    random order."""
    order = Draw(f"{task.name} labels", split, block, 0).order(count)
    return (np.arange(count) % len(task.classes))[order].astype(np.uint8)


def sample_tints(task: EmbeddedTask, split: str, count: int, block: int = 0) -> np.ndarray:
    """The dark and the light colour of each sample of a tinted task, uint8 (n, 2, 3)."""
    values = Draw(f"{task.name} tints", split, block, 0).array((count, 2, 3))
    return np.floor(np.stack([values[:, 0] * 90, 165 + values[:, 1] * 90], axis=1)).astype(np.uint8)


def sample_split(task: EmbeddedTask, split: str, only: Iterable[int] | None = None) -> np.ndarray:
    """Levels (n, P, 32, 32) of a split, or of ``only`` some of its samples; P is 3 for colour, else 1."""
    labels = balanced_labels(task, split, COUNTS[split])
    levels = []
    for index in range(len(labels)) if only is None else only:
        number = int((labels[:index] == labels[index]).sum())
        picture = task.sample(Draw(task.name, split, index, number), int(labels[index]))
        expected = (SIZE, SIZE, 3) if task.colour == "colour" else (SIZE, SIZE)
        if picture.shape != expected:
            raise ValueError(f"task {task.name!r} drew a sample of shape {picture.shape}; it must be {expected}")
        levels.append(encoder.levels_of(picture))
    return np.stack(levels)


def task_arrays(task: EmbeddedTask) -> dict[str, np.ndarray]:
    """Everything a task's file holds."""
    about = ("name", "group", "classes", "colour")
    arrays = {
        "meta": encoder.meta_array({"format": FORMAT, **{name: getattr(task, name) for name in about}}),
        "labels": np.concatenate([balanced_labels(task, split, count) for split, count in COUNTS.items()]),
        "split": np.concatenate([np.full(count, i, dtype=np.uint8) for i, count in enumerate(COUNTS.values())]),
        "residuals": encoder.encode(np.concatenate([sample_split(task, split) for split in COUNTS])),
    }
    if task.colour == "tinted":
        arrays["tints"] = np.concatenate([sample_tints(task, split, count) for split, count in COUNTS.items()])
    return arrays


def build(
    out: Path, names: Iterable[str] | None = None, *, check: bool = False, progress: Callable[[str], None] = say
) -> list[str]:
    """Draw the suite into ``out``: one ``<task>.npz`` each, the data card README.md and examples.png.

    With ``check``, nothing but a comparison: ``out`` must already hold the files; the names of the tasks that come out
    different are returned. Equal means equal bytes, or equal arrays where another lzma library packed them differently.
    """
    tasks, out, different = embedded_tasks(), Path(out), []
    for name in tasks if names is None else names:
        find_embedded(name)
        started = time.perf_counter()
        arrays = task_arrays(tasks[name])
        content, path, state = encoder.npz_bytes(arrays), out / f"{name}.npz", "written"
        if check:
            state = encoder.compare(path, arrays, content)
        else:
            write_atomic(path, content)
        if state == "different":
            different.append(name)
        digest, seconds = hashlib.blake2b(content, digest_size=8).hexdigest(), time.perf_counter() - started
        progress(f"{name:14s} {len(content) / 1e6:5.2f} MB  {digest}  {seconds:5.1f} s  {state}")
    if not check:
        card.write(out)
    return different


def index(folder: Path = EMBEDDED, amounts: Iterable[str] = AMOUNTS) -> dict[str, Any]:
    """What ``tasks.json`` holds: what each embedded task in ``folder`` is, and the digests of tasks and weights, by
    which a study is planned without reading them. The further images that ``amounts`` need must have been drawn."""
    rows = [{field: getattr(task, field) for field in FIELDS} for task in embedded_tasks().values()]
    rows.append({**WORLD_ROW})
    for row in rows:
        names = [row["name"], *(name for name in amounts if name.startswith(f"{row['name']}@"))]
        row["digests"] = {name: load_embedded(name, folder).digest for name in names}
    return {"tasks": rows, "weights": {name: backbones.digest(name) for name in backbones.EMBEDDED_NAMES}}


def draw_more(name: str, progress: Callable[[str], None] = say) -> list[Path]:
    """Draw the training images after the shipped ones that the task ``name``, such as "orientation@10000", needs, in
    blocks of 1,000 into the user's cache, where ``petl_core.data.embedded`` looks for them.

    A block that is whole is left as it is, so a call that was stopped goes on where it was."""
    base, count = find_amount(name)
    paths = [block_path(base, block) for block in range(-(-max(0, count - SHIPPED) // BLOCK))]
    for block, path in enumerate(paths):
        try:
            read_block(path)
            state = "is there already"
        except UserError:  # absent, or damaged
            started = time.perf_counter()
            arrays = draw_block(embedded_tasks()[base], block)
            write_atomic(path, encoder.npz_bytes(arrays), make_folder=True)
            state = f"drawn in {time.perf_counter() - started:.0f} s"
        progress(f"{base}: block {block + 1} of {len(paths)} {state}: {path}")
    return paths


def draw_block(task: EmbeddedTask, block: int, count: int = BLOCK) -> dict[str, np.ndarray]:
    """Further training samples: levels (count, P, 32, 32), labels (count,), and tints (count, 2, 3)."""
    labels = balanced_labels(task, "train", count, 1 + block)
    start = COUNTS["train"] + BLOCK * block
    levels = []
    for number, label in enumerate(progress_bar(labels.tolist(), f"drawing block {block + 1}"), start=start):
        levels.append(encoder.levels_of(task.sample(Draw(task.name, "train", number, number), label)))
    return {"levels": np.stack(levels), "labels": labels, "tints": sample_tints(task, "train", count, 1 + block)}


def main(arguments: Sequence[str]) -> int:
    """The command ``suite``."""
    parser = command_line("suite", __doc__, "--out data/embedded --check", "--more orientation@10000")
    parser.add_argument("--out", type=Path, help="the folder for the .npz files")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the files in --out with new ones")
    parser.add_argument("--tasks", nargs="+", help="only these tasks (all)")
    parser.add_argument("--index", action="store_true", help="write only tasks.json: descriptions and digests")
    parser.add_argument("--more", metavar="TASK@N", help="draw the further training images of such a task instead")
    chosen = parser.parse_args(arguments)
    if chosen.more:
        draw_more(chosen.more)
        return 0
    if chosen.out is None:
        raise UserError("suite needs --out FOLDER, or --more TASK@N")
    if chosen.index:
        text = json.dumps(index(chosen.out), indent=1)
        print(write_atomic(chosen.out / "tasks.json", f"{text}\n".encode()))
        return 0
    return 1 if build(chosen.out, chosen.tasks, check=chosen.check) else 0
