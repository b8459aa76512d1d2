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

Pictures are drawn when first asked for (about ten seconds) and kept in the user's cache (18 MB). ``world.json`` also
holds a digest of each part: a machine that draws other bits says so.

    python -m petl_core data build-world --out data/embedded --check      # draw everything and compare the digests
    python -m petl_core data build-world --out data/embedded              # the same, choosing the hard pictures anew
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from petl_core.data import codec
from petl_core.data.many import cache_folder
from petl_core.data.suite import SIZE
from petl_core.data.suite.draw import Draw
from petl_core.data.task import Task, make_task
from petl_core.data.world.scenes import CLASSES, RENDITIONS, Pose, picture
from petl_core.errors import UserError
from petl_core.paths import EMBEDDED

WORLD = "world"
COUNTS = {"train": 800, "val": 200, "test": 1000, "v2": 1000, "renditions": 1000, "sketch": 1000, "hard": 1000}
SHIFTS = ("v2", "renditions", "sketch", "hard")
STYLES_OF = {"renditions": RENDITIONS, "sketch": ("sketch",)}  # every other part is in the target's style
POSES = {"v2": Pose(small=7.5, large=12.0, turn=0.65)}
FORMAT = 1
FILTER_IMAGES, CANDIDATES = 4000, 6000


def load_world(folder: Path = EMBEDDED) -> Task:
    """The task ``world``, with the splits of ``SHIFTS`` besides the usual ones."""
    card = read_card(folder)
    numbers = {part: np.arange(count) for part, count in COUNTS.items()} | {"hard": np.array(card["hard"])}
    levels = _cached(card)
    labels = [labels_of(part, numbers[part]) for part in COUNTS]
    ids = tuple(f"{WORLD}/{part}/{number:04d}" for part in COUNTS for number in numbers[part])
    starts = np.cumsum([0, *COUNTS.values()])
    parts = {part: np.arange(a, b) for part, a, b in zip(COUNTS, starts[:-1], starts[1:], strict=True)}
    images = codec.intensities(np.concatenate([levels[part] for part in COUNTS]))
    return make_task(WORLD, "other", CLASSES, images, np.concatenate(labels), ids, **parts)


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
    for number, label in zip(tqdm(numbers, desc=f"drawing {part}", leave=False, delay=2), labels, strict=True):
        draw = Draw(f"{WORLD} {part}", "test", int(number), int(number))
        image = picture(draw, int(label), draw.pick(styles), pose)
        levels.append(codec.quantise(image.transpose(2, 0, 1)))
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


def _cached(card: dict[str, Any]) -> dict[str, np.ndarray]:
    """The levels of all parts, from the cache or drawn now; warns where they are not those that were written down."""
    key = hashlib.blake2b(json.dumps(card, sort_keys=True).encode(), digest_size=4).hexdigest()
    path = cache_folder() / f"{WORLD}-{key}.npz"
    try:
        levels = codec.read_npz(path, tuple(COUNTS))
        if any(levels[part].shape != (count, 3, SIZE, SIZE) for part, count in COUNTS.items()):
            raise UserError(f"{path} holds other counts")
    except UserError:
        levels = draw_world(card["hard"])
        buffer = io.BytesIO()
        np.savez(buffer, **levels)  # type: ignore[arg-type]  # NumPy's stub takes the names for its own options
        codec.write_file(path, buffer.getvalue())
    if other := [part for part in COUNTS if digest_of(levels[part]) != card["digests"][part]]:
        warnings.warn(
            f"this machine draws {', '.join(other)} of the task '{WORLD}' differently from the one that shipped "
            "results were made on (another numpy or processor); your numbers may differ a little from those shown",
            stacklevel=3,
        )
    return levels


def draw_world(hard: Sequence[int]) -> dict[str, np.ndarray]:
    """Levels of each part, given the numbers of the hard pictures."""
    return {part: draw_part(part, hard if part == "hard" else range(count)) for part, count in COUNTS.items()}


def hard_numbers(images: int = FILTER_IMAGES, candidates: int = CANDIDATES, each: int | None = None) -> list[int]:
    """Numbers of the candidates that ``mini``, fully fine-tuned on ``images`` pictures, gets wrong: the first ``each``
    of each class (default: so many that they make up the part). Trains for a minute or two on one core."""
    import torch

    from petl_core.model import create_model
    from petl_core.train import Recipe, predict, train

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
    pictures anew, and write that file and world.png."""
    from petl_core.data import card

    say = progress or (lambda _: None)
    old = read_card(out) if check else None
    hard = old["hard"] if old else hard_numbers()
    different, digests = [], {}
    for part, count in COUNTS.items():
        started = time.perf_counter()
        digests[part] = digest_of(draw_part(part, hard if part == "hard" else range(count)))
        state = "written" if old is None else "identical" if digests[part] == old["digests"][part] else "different"
        different += [part] * (state == "different")
        say(f"{part:12s} {count:5d} pictures  {digests[part]}  {time.perf_counter() - started:5.1f} s  {state}")
    if old is None:
        text = json.dumps({"format": FORMAT, "digests": digests, "hard": hard}, sort_keys=True)
        codec.write_file(Path(out) / "world.json", (text + "\n").encode())
        card.write_world(Path(out))
    return different
