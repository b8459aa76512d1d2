"""The data card: README.md and two sheets of examples beside the embedded tasks, made from registry, recipes and files.

The words of the card are in ``data/embedded/README.in.md``, with names in braces where a figure is filled in.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image

from petl_core.data.embedded import SHIFTS, SIZE, WORLD, WORLD_COUNTS, in_turn, load_embedded
from petl_core.utils import EMBEDDED, write_atomic
from petl_make import world
from petl_make.mini_clip import ClipRecipe
from petl_make.suite import embedded_tasks
from petl_make.world.captions import VOCABULARY

TEMPLATE = EMBEDDED / "README.in.md"
ACROSS, ZOOM, GAP = 16, 2, 2
MADE_WITH = ("numpy", "pillow", "fonttools", "scikit-image", "scikit-learn", "matplotlib")


def write(out: Path) -> None:
    """README.md and examples.png for the tasks in ``out``."""
    write_atomic(out / "README.md", TEMPLATE.read_text(encoding="utf-8").format(**facts()).encode())
    names = [name for name in embedded_tasks() if (out / f"{name}.npz").is_file()]
    write_atomic(out / "examples.png", sheet(out, [(name, "train800") for name in names], ACROSS))


def write_world(out: Path) -> None:
    """world.png: the first picture of each class of the world's five test sets, a set a row."""
    rows = [(WORLD, split) for split in ("test", *SHIFTS)]
    write_atomic(out / "world.png", sheet(out, rows, len(world.CLASSES)))


def facts() -> dict[str, object]:
    """What the card's text leaves open."""
    tasks, recipe = embedded_tasks().values(), ClipRecipe()
    rows = (f"| {t.name} | {t.group} | {len(t.classes)} | {t.description} | {t.source} | {t.licence} |" for t in tasks)
    return {
        "size": SIZE,
        "picture": "examples.png",
        "rows": "\n".join(rows),
        "classes": "\n".join(f"- **{t.name}**: {', '.join(t.classes)}" for t in tasks),
        "versions": ", ".join([f"Python {platform.python_version()}", *map(_version, MADE_WITH)]),
        "things": ", ".join(world.CLASSES),
        "words": len(VOCABULARY),
        "candidates": world.CANDIDATES,
        "filter": world.FILTER_IMAGES,
        "each": WORLD_COUNTS["hard"] // len(world.CLASSES),
        "start": f"the weights of `{recipe.start}`" if recipe.start else "random weights",
        **{name: getattr(recipe, name) for name in ("images", "epochs", "photos", "wrong", "beside")},
    }


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (absent)"


def sheet(out: Path, rows: Sequence[tuple[str, str]], across: int) -> bytes:
    """A PNG: the first ``across`` images of each (task, split), a row each, with the classes in turn."""
    step = SIZE * ZOOM + GAP
    image = np.full((len(rows) * step + GAP, across * step + GAP, 3), 255, dtype=np.uint8)
    for i, (name, split) in enumerate(rows):
        images, labels, _ = load_embedded(name, out).split(split)
        for j, tile in enumerate(images[in_turn(labels.numpy())[:across]].numpy()):
            top, left = GAP + i * step, GAP + j * step
            large = tile.transpose(1, 2, 0).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
            image[top : top + SIZE * ZOOM, left : left + SIZE * ZOOM] = large
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
