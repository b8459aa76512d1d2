"""The rendered world of the robustness chapter: one task, and test sets that are shifted from it.

Twenty things (``objects.py``) in twelve styles (``scenes.py``). The task ``world`` is about one style, ``photo``, and
has the usual splits; four more splits hold the same classes under a shift that stands for one of ImageNet's:

==============  ==========================  ====================================================================
split           stands for                  what it is
==============  ==========================  ====================================================================
``v2``          ImageNet-V2                 a new sample of the target's style: things a little smaller, turned more
``renditions``  ImageNet-R                  eight other styles: cartoon, painting, mosaic, engraving, stained glass,
                                            dots, relief, neon
``sketch``      ImageNet-Sketch             line drawings
``hard``        ImageNet-A                  pictures of the target's style that another model gets wrong
==============  ==========================  ====================================================================

The other model is ``mini``, fully fine-tuned on ``FILTER_IMAGES`` further pictures of the target's style
(``hard_numbers``). With ``mini_clip`` it shares the weights that both started from, and nothing else. Which pictures it
left is written down in ``data/embedded/world.json``, so that nobody needs to train it to draw them.

The task is shipped as ``world.npz``; ``world.json`` holds the numbers of the hard pictures and a digest of each part,
so that a machine that draws other bits says so.

    python -m petl_make world --out data/embedded --check      # draw everything and compare the digests
    python -m petl_make world --out data/embedded              # the same, choosing the hard pictures anew
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.data import codec
from petl_core.data.embedded import FORMAT, WORLD
from petl_core.data.embedded import WORLD_COUNTS as COUNTS
from petl_core.data.task import make_task
from petl_core.utils import UserError, progress_bar, write_atomic
from petl_make import codec as encoder
from petl_make.suite.draw import Draw
from petl_make.world.scenes import CLASSES, RENDITIONS, Pose, picture

STYLES_OF = {"renditions": RENDITIONS, "sketch": ("sketch",)}  # every other part is in the target's style
POSES = {"v2": Pose(small=7.5, large=12.0, turn=0.65)}
FILTER_IMAGES, CANDIDATES = 4000, 6000


def labels_of(part: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """The labels of a part's samples. Every class equally often; candidates for ``hard`` have the classes in turn."""
    at = np.asarray(numbers)
    if part in COUNTS and part != "hard":
        return (np.arange(COUNTS[part]) % len(CLASSES))[
            Draw(f"{WORLD} {part} labels", "test", 0, 0).order(COUNTS[part])
        ][at]
    return at % len(CLASSES)


def draw_part(part: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Levels uint8 (n, 3, 32, 32) of a part's samples with these numbers; each has a chance of its own."""
    styles, pose, levels = STYLES_OF.get(part, ("photo",)), POSES.get(part, Pose()), []
    labels = labels_of(part, numbers)
    for number, label in zip(progress_bar(numbers, f"drawing {part}"), labels, strict=True):
        draw = Draw(f"{WORLD} {part}", "test", int(number), int(number))
        image = picture(draw, int(label), draw.pick(styles), pose)
        levels.append(encoder.quantise(image.transpose(2, 0, 1)))
    return np.stack(levels)


def digest_of(levels: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(levels).data, digest_size=8).hexdigest()


def read_card(folder: Path) -> dict[str, Any]:
    """``world.json``: format, the digest of each part, and the numbers of the hard pictures."""
    path = Path(folder) / "world.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        whole = card["format"] == FORMAT and set(card["digests"]) == set(COUNTS) and len(card["hard"]) == COUNTS["hard"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is absent or damaged ({error}); restore it with `git checkout`") from error
    if not whole:
        raise UserError(f"{path} is not of this version; restore it with `git checkout`, or update petl_core")
    return card


def world_arrays(levels: dict[str, np.ndarray], hard: Sequence[int]) -> dict[str, np.ndarray]:
    """Everything the world's file holds, given the levels of each part and the numbers of the hard pictures."""
    meta = {"format": FORMAT, "name": WORLD, "group": "other", "classes": CLASSES, "colour": "colour"}
    numbers = {part: np.arange(count) for part, count in COUNTS.items()} | {"hard": np.array(hard)}
    return {
        "meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8),
        "labels": np.concatenate([labels_of(part, numbers[part]) for part in COUNTS]).astype(np.uint8),
        "split": np.concatenate([np.full(count, i, dtype=np.uint8) for i, count in enumerate(COUNTS.values())]),
        "residuals": encoder.encode(np.concatenate([levels[part] for part in COUNTS])),
        "hard_numbers": numbers["hard"].astype(np.uint16),
    }


def hard_numbers(images: int = FILTER_IMAGES, candidates: int = CANDIDATES, each: int | None = None) -> list[int]:
    """Numbers of the candidates that ``mini``, fully fine-tuned on ``images`` pictures, gets wrong: the first ``each``
    of each class (default: so many that they make up the part). Trains for a minute or two on one core."""
    import torch

    from petl_core.models.build import create_model
    from petl_core.training.train import Recipe, predict, train

    each = each or COUNTS["hard"] // len(CLASSES)
    levels = np.concatenate([draw_part("filter", range(images)), draw_part("hard", range(candidates))])
    labels = np.concatenate([labels_of("filter", range(images)), labels_of("hard", range(candidates))])
    n, ids = images, tuple(map(str, range(images + candidates)))
    task = make_task(
        "filter", "other", CLASSES, codec.intensities(levels), labels, ids,
        np.arange(n - 1), np.arange(n - 1, n), np.arange(n, n + candidates),
    )  # fmt: skip
    recipe = Recipe(lr=1e-3, epochs=10)
    model = create_model("mini", "full", num_classes=len(CLASSES))
    train(model, task, recipe, max_evaluate=1)
    guesses = predict(model, torch.from_numpy(codec.intensities(levels[n:])), recipe).argmax(1).numpy()
    wrong = np.flatnonzero(guesses != labels[n:])
    chosen = [wrong[labels[n:][wrong] == c][:each] for c in range(len(CLASSES))]
    if short := [CLASSES[c] for c, numbers in enumerate(chosen) if len(numbers) < each]:
        raise UserError(f"too few hard pictures of {', '.join(short)} among {candidates} candidates; draw more")
    return sorted(int(number) for numbers in chosen for number in numbers)


def build(out: Path, check: bool = False, progress: Callable[[str], None] | None = print) -> list[str]:
    """Draw the world. With ``check``, return the parts that differ from ``out``/world.json; else choose the hard
    pictures anew, and write the task's file, world.json and world.png."""
    from petl_make import card

    say = progress or (lambda _: None)
    old = read_card(out) if check else None
    hard = old["hard"] if old else hard_numbers()
    different, digests, levels = [], {}, {}
    for part, count in COUNTS.items():
        started = time.perf_counter()
        levels[part] = draw_part(part, hard if part == "hard" else range(count))
        digests[part] = digest_of(levels[part])
        state = "written" if old is None else "identical" if digests[part] == old["digests"][part] else "different"
        if state == "different":
            different.append(part)
        say(f"{part:12s} {count:5d} pictures  {digests[part]}  {time.perf_counter() - started:5.1f} s  {state}")
    if old is None:
        text = json.dumps({"format": FORMAT, "digests": digests, "hard": hard}, sort_keys=True)
        write_atomic(Path(out) / "world.json", (text + "\n").encode())
        write_atomic(Path(out) / f"{WORLD}.npz", encoder.npz_bytes(world_arrays(levels, hard)))
        card.write_world(Path(out))
    return different


def main(arguments: Sequence[str]) -> int:
    """The command ``world``."""
    parser = argparse.ArgumentParser(prog="python -m petl_make world", description=build.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of world.json")
    parser.add_argument("--check", action="store_true", help="write nothing; draw and compare the digests")
    chosen = parser.parse_args(arguments)
    return 1 if build(chosen.out, check=chosen.check) else 0
