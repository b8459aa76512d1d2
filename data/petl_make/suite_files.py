"""The embedded suite as files: draw it, and check it against what is shipped.

A file holds the samples in the order train (800), val (200), test (1,000). What the tasks are is in
``petl_make.suite``; how pixels are stored, in ``petl_core.data.codec``; reading, in ``petl_core.data.embedded``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.data import codec
from petl_core.data.embedded import BLOCK, COUNTS, FORMAT, SIZE, WORLD, block_path, find_embedded, parts_of_name
from petl_core.data.load import load_task
from petl_core.models import weights as backbones
from petl_core.utils import UserError, cache_folder, progress_bar, write_atomic
from petl_make import codec as encoder
from petl_make.suite import EmbeddedTask, embedded_tasks
from petl_make.suite.draw import Draw
from petl_make.world.scenes import CLASSES

AMOUNTS = ("textures@100", "textures@10000", "orientation@100", "orientation@10000")  # whose digests are written down
WORLD_ROW = {
    "name": WORLD,
    "group": "other",
    "classes": CLASSES,
    "description": "twenty rendered things in the style photo, with shifted test sets",
    "source": "drawn by this project",
    "licence": "MIT, as this project",
    "colour": "colour",
}


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
        levels.append(encoder.quantise(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
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
        "residuals": encoder.encode(np.concatenate([sample_split(task, split) for split in COUNTS])),
    }
    if task.colour == "tinted":
        arrays["tints"] = np.concatenate([sample_tints(task, split) for split in COUNTS])
    return arrays


def build(
    out: Path, check: bool = False, names: Iterable[str] | None = None, progress: Callable[[str], None] | None = print
) -> list[str]:
    """Draw the suite into ``out``: one ``<task>.npz`` each, the data card README.md and examples.png.

    With ``check``, nothing but a comparison: ``out`` must already hold the files; the names of the tasks that come out
    different are returned. Equal means equal bytes, or equal arrays where another lzma library packed them differently.
    """
    from petl_make import card

    out = Path(out)
    say = progress or (lambda _: None)
    different = []
    chosen = (
        [embedded_tasks()[find_embedded(name).name] for name in names]
        if names is not None
        else list(embedded_tasks().values())
    )
    for task in chosen:
        started = time.perf_counter()
        arrays = task_arrays(task)
        content = encoder.npz_bytes(arrays)
        path = out / f"{task.name}.npz"
        if check:
            state = compare(path, arrays, content)
            different += [task.name] * (state == "different")
        else:
            write_atomic(path, content)
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


def write_index(out: Path) -> Path:
    """Write ``tasks.json``: what each embedded task is, and the digests of tasks and weights, by which a study is
    planned without reading them. The further images of the tasks in ``AMOUNTS`` must have been drawn."""
    rows: list[dict[str, Any]] = []
    for task in embedded_tasks().values():
        names = [task.name, *(name for name in AMOUNTS if name.startswith(f"{task.name}@"))]
        fields = ("name", "group", "classes", "description", "source", "licence", "colour")
        digests = {name: load_task(name).digest for name in names}
        rows.append({field: getattr(task, field) for field in fields} | {"digests": digests})
    rows.append(WORLD_ROW | {"digests": {WORLD: load_task(WORLD).digest}})
    weights = {name: backbones.digest(name) for name in ("mini", "mini_clip")}
    text = json.dumps({"tasks": rows, "weights": weights}, indent=1)
    return write_atomic(Path(out) / "tasks.json", f"{text}\n".encode())


def draw_more(name: str, count: int) -> list[Path]:
    """Draw the training images after the shipped ones that the task ``<name>@<count>`` needs, in blocks of 1,000 into
    the user's cache, where ``petl_core.data.embedded`` looks for them; a block that is whole is left as it is."""
    find_embedded(name)
    task = embedded_tasks()[name]
    cache_folder().mkdir(parents=True, exist_ok=True)
    more = max(0, count - COUNTS["train"] - COUNTS["val"])
    paths = [block_path(name, block) for block in range(-(-more // BLOCK))]
    for block, path in enumerate(progress_bar(paths, f"drawing {name}")):
        if not path.is_file():
            write_atomic(path, encoder.npz_bytes(draw_block(task, block)))
    return paths


def draw_block(task: EmbeddedTask, block: int) -> dict[str, np.ndarray]:
    """1,000 further training samples: levels (BLOCK, P, 32, 32), labels, and tints (BLOCK, 2, 3) for tinted tasks."""
    order = Draw(f"{task.name} labels", "train", 1 + block, 0).order(BLOCK)
    labels = (np.arange(BLOCK) % len(task.classes))[order].astype(np.uint8)
    start = COUNTS["train"] + BLOCK * block
    levels = []
    for i, label in enumerate(labels.tolist()):
        picture = task.sample(Draw(task.name, "train", start + i, start + i), label)
        levels.append(encoder.quantise(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
    values = Draw(f"{task.name} tints", "train", 1 + block, 0).array((BLOCK, 2, 3))
    tints = np.floor(np.stack([values[:, 0] * 90, 165 + values[:, 1] * 90], axis=1)).astype(np.uint8)
    return {"levels": np.stack(levels), "labels": labels, "tints": tints}


def main(arguments: Sequence[str]) -> int:
    """The command ``suite``."""
    parser = argparse.ArgumentParser(prog="python -m petl_make suite", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="the folder for the .npz files")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the files in --out with new ones")
    parser.add_argument("--tasks", nargs="+", help="only these tasks (all)")
    parser.add_argument("--index", action="store_true", help="write only tasks.json: descriptions and digests")
    parser.add_argument("--more", metavar="TASK@N", help="draw the further training images of such a task instead")
    chosen = parser.parse_args(arguments)
    if chosen.more:
        print(*draw_more(*parts_of_name(chosen.more)), sep="\n")
        return 0
    if chosen.out is None:
        raise UserError("suite needs --out FOLDER, or --more TASK@N")
    if chosen.index:
        print(write_index(chosen.out))
        return 0
    return 1 if build(chosen.out, check=chosen.check, names=chosen.tasks) else 0
