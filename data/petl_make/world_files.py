"""The rendered world as files: which of its pictures are hard, drawing it, and comparing it with what is shipped.

    python -m petl_make world --out data/embedded --check      # draw everything and compare
    python -m petl_make world --out data/embedded              # choose the hard pictures anew, and write

The hard pictures are those that another model gets wrong: ``mini``, fully fine-tuned on ``FILTER_IMAGES`` further
pictures of the target's style. With ``mini_clip`` it shares the weights that both started from, and nothing else.
``world.json`` holds their numbers, so that nobody needs to train it, and a digest of each part, so that a machine that
draws other bits says so. The task itself is ``world.npz``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petl_core.data import codec
from petl_core.data.embedded import FORMAT, WORLD
from petl_core.data.embedded import WORLD_COUNTS as COUNTS
from petl_core.data.task import make_task
from petl_core.models.build import create_model
from petl_core.training.train import Recipe, predict, train
from petl_core.utils import UserError, write_atomic
from petl_make import card, command_line, say
from petl_make import codec as encoder
from petl_make.world import CANDIDATES, FILTER_IMAGES, draw_part, labels_of
from petl_make.world.scenes import CLASSES


def digest_of(levels: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(levels).data, digest_size=8).hexdigest()


def read_card(folder: Path) -> dict[str, Any]:
    """``world.json``: format, the digest of each part, and the numbers of the hard pictures."""
    path = Path(folder) / "world.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        parts, hard = set(found["digests"]), len(found["hard"])
        whole = found["format"] == FORMAT and parts == set(COUNTS) and hard == COUNTS["hard"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is absent or damaged ({error}); restore it with `git checkout`") from error
    if not whole:
        raise UserError(f"{path} is not of this version; restore it with `git checkout`, or update petl_core")
    return found


def world_arrays(levels: dict[str, np.ndarray], hard: Sequence[int]) -> dict[str, np.ndarray]:
    """Everything the world's file holds, given the levels of each part and the numbers of the hard pictures."""
    numbers = {part: np.arange(count) for part, count in COUNTS.items()} | {"hard": np.array(hard)}
    return {
        "meta": encoder.meta_array(
            {"format": FORMAT, "name": WORLD, "group": "other", "classes": CLASSES, "colour": "colour"}
        ),
        "labels": np.concatenate([labels_of(part, numbers[part]) for part in COUNTS]).astype(np.uint8),
        "split": np.concatenate([np.full(count, i, dtype=np.uint8) for i, count in enumerate(COUNTS.values())]),
        "residuals": encoder.encode(np.concatenate([levels[part] for part in COUNTS])),
        "hard_numbers": numbers["hard"].astype(np.uint16),
    }


def hard_numbers(images: int = FILTER_IMAGES, candidates: int = CANDIDATES, each: int | None = None) -> list[int]:
    """Numbers of the candidates that ``mini``, fully fine-tuned on ``images`` pictures, gets wrong: the first ``each``
    of each class (default: so many that they make up the part). Trains for a minute or two on one core."""
    each = each or COUNTS["hard"] // len(CLASSES)
    levels = np.concatenate([draw_part("filter", range(images)), draw_part("hard", range(candidates))])
    labels = np.concatenate([labels_of("filter", range(images)), labels_of("hard", range(candidates))])
    train_part, val, test = np.split(np.arange(images + candidates), [images - 1, images])
    task = make_task(
        "filter",
        "other",
        CLASSES,
        images=codec.intensities(levels),
        labels=labels,
        ids=tuple(map(str, range(images + candidates))),
        splits={"train800": train_part, "val200": val, "test": test},
    )
    recipe = Recipe(lr=1e-3, epochs=10)
    model = create_model("mini", "full", num_classes=len(CLASSES))
    train(model, task, recipe, max_evaluate=1)
    guesses = predict(model, torch.from_numpy(codec.intensities(levels[images:])), recipe).argmax(1).numpy()
    wrong = np.flatnonzero(guesses != labels[images:])
    chosen = [wrong[labels[images:][wrong] == label][:each] for label in range(len(CLASSES))]
    if short := [name for name, numbers in zip(CLASSES, chosen, strict=True) if len(numbers) < each]:
        raise UserError(f"too few hard pictures of {', '.join(short)} among {candidates} candidates; draw more")
    return sorted(int(number) for numbers in chosen for number in numbers)


def build(out: Path, *, check: bool = False, progress: Callable[[str], None] = say) -> list[str]:
    """Draw the world. With ``check``, return the parts that differ from ``out``/world.json, and "world.npz" if that
    file does; else choose the hard pictures anew, and write the task's file, world.json and world.png."""
    out = Path(out)
    old = read_card(out) if check else None
    hard = old["hard"] if old else hard_numbers()
    different, digests, levels = [], {}, {}
    for part, count in COUNTS.items():
        started = time.perf_counter()
        levels[part] = draw_part(part, hard if part == "hard" else range(count))
        digests[part] = digest_of(levels[part])
        state = "drawn"
        if old is not None:
            state = "identical" if digests[part] == old["digests"][part] else "different"
        if state == "different":
            different.append(part)
        seconds = time.perf_counter() - started
        progress(f"{part:12s} {count:5d} pictures  {digests[part]}  {seconds:5.1f} s  {state}")
    arrays = world_arrays(levels, hard)
    path, content = out / f"{WORLD}.npz", encoder.npz_bytes(arrays)
    if old is not None:
        state = encoder.compare(path, arrays, content)
        progress(f"{path.name:12s} {state}")
        return [*different, path.name] if state == "different" else different
    text = json.dumps({"format": FORMAT, "digests": digests, "hard": hard}, sort_keys=True)
    write_atomic(out / "world.json", f"{text}\n".encode())
    write_atomic(path, content)
    card.write_world(out)
    return []


def main(arguments: Sequence[str]) -> int:
    """The command ``world``."""
    parser = command_line("world", __doc__, "--out data/embedded --check")
    parser.add_argument("--out", type=Path, required=True, help="the folder of world.npz and world.json")
    parser.add_argument("--check", action="store_true", help="write nothing; draw and compare")
    chosen = parser.parse_args(arguments)
    return 1 if build(chosen.out, check=chosen.check) else 0
