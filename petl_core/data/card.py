"""The data card: README.md and examples.png beside the embedded tasks, made from the registry and the files."""

from __future__ import annotations

import io
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from petl_core.data import codec
from petl_core.data.embedded import load_embedded
from petl_core.data.suite import COUNTS, SIZE, embedded_tasks

ACROSS, ZOOM, GAP = 16, 2, 2
MADE_WITH = ("numpy", "pillow", "fonttools", "scikit-image", "scikit-learn", "matplotlib")

TEXT = """# The embedded suite

Eleven tasks in the shape of VTAB-1K (Zhai et al., 2019, arXiv 1910.04867): 800 training, 200 validation and 1,000 test
images of {size} x {size} pixels in three groups. Free to redistribute; nothing is downloaded. This page and the
picture are written by the command that draws the data:

    python -m petl_core data build-suite --out data/embedded          # draw everything again
    python -m petl_core data build-suite --out data/embedded --check  # compare with what is here, change nothing

![Sixteen training images of each task, a task a row]({picture})

One task a row, in the order of the table.

| task | group | classes | what is asked | made from | licence |
|---|---|---|---|---|---|
{rows}

## How it is made
- **Chance.** Each sample has its own generator, PCG64 seeded with the task's name, the split and the sample's number,
  and uses its uniform doubles only. All drawing, resampling and ray casting is NumPy code in `petl_core/data/suite`,
  so no graphics library's version shows in the pixels. Photographs are decoded by Pillow; letter outlines are read by
  fontTools.
- **Splits.** Photographs are divided into square cells. A cell belongs to train, val or test, and a patch lies within
  one cell: no pixel of a test patch occurs in training. Of scikit-learn's 1,797 digits, 637 belong to train, 160 to
  val and 1,000 to test; each class uses its own in turn, some twice in another place and some not at all (636, 160
  and 971 occur). Rendered scenes are drawn independently.
- **Labels** are balanced: each class equally often in each split, to within one.
- **Colour tells nothing.** *Grey* tasks have no colour and an evened contrast. *Tinted* tasks are grey images between
  a dark and a light colour drawn at random. *Colour* tasks draw random palettes per image, brighter or darker than
  the background by chance.
- **Storage.** Intensities are rounded to 32 levels (five bits); what remains is stored without loss
  (`petl_core/data/codec.py`). Files are `.npz` with fixed time stamps: equal arrays give equal bytes.

## Classes
{classes}

## Limits
The photographs are few, so `photo_scenes` and `textures` ask for recognition of these scenes and materials, not of
the category in general; the pieces of one photograph share its light and camera. `science` has one or two source
images a class: a model that does well on it has learnt to tell these images apart, nothing clinical. Rendered groups
are simpler than their models in VTAB (CLEVR, dSPRITES, SmallNORB). How hard the drawn tasks are was set while looking
at the accuracy of a few methods (LoRA, linear probing, logistic regression on raw pixels, one seed each, test images
included), so that tuning LoRA beats raw pixels on each task. That it does is therefore a property of the suite and no
finding; comparisons between tuned methods were not looked at. Use the suite to compare ways of tuning, not to claim
accuracy on its subjects.

## Attribution
`china.jpg` by danielbuechele and `flower.jpg` by vultilion (both Flickr, CC BY 2.0; cut, turned and recoloured here),
through scikit-learn.
`astronaut.png`, `hubble_deep_field.jpg`: NASA, public domain. `rocket.jpg`: SpaceX, public domain.
`camera.png`, `chelsea.png`, `coffee.png`, `brick.png`, `grass.png`, `gravel.png`, `cell.png`, `retina.jpg`,
`microaneurysms.png`: CC0. `coins.png` (Brooklyn Museum), `ihc.png`, `text.png`: no known restrictions, as scikit-image
states. `moon.png`, `page.png`: part of scikit-image (BSD-3-Clause), which names no other terms.
`grace_hopper.jpg`: US Navy, public domain. `jacksboro_fault_dem.npz`: US Geological Survey, public domain.
Digits: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, CC BY 4.0.

Drawn with {versions}.
"""


def versions() -> str:
    """Python and the packages that read the sources, with their versions."""
    found = [f"Python {platform.python_version()}"]
    for package in MADE_WITH:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} (absent)")
    return ", ".join(found)


def picture(out: Path) -> bytes:
    """A PNG: a task a row, its first ``ACROSS`` training images with the classes in turn."""
    from PIL import Image

    step = SIZE * ZOOM + GAP
    tasks = [load_embedded(name, out) for name in embedded_tasks() if (out / f"{name}.npz").is_file()]
    sheet = np.full((len(tasks) * step + GAP, ACROSS * step + GAP, 3), 255, dtype=np.uint8)
    for row, task in enumerate(tasks):
        labels = task.labels[: COUNTS["train"]].numpy()
        rank = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
        for column, index in enumerate(np.lexsort((labels, rank))[:ACROSS]):
            tile = task.images[index].numpy().transpose(1, 2, 0).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
            top, left = GAP + row * step, GAP + column * step
            sheet[top : top + SIZE * ZOOM, left : left + SIZE * ZOOM] = tile
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write(out: Path) -> None:
    """README.md and examples.png for the tasks in ``out``."""
    tasks = embedded_tasks().values()
    rows = "\n".join(
        f"| {t.name} | {t.group} | {len(t.classes)} | {t.description} | {t.source} | {t.licence} |" for t in tasks
    )
    classes = "\n".join(f"- **{t.name}**: {', '.join(t.classes)}" for t in tasks)
    text = TEXT.format(size=SIZE, picture="examples.png", rows=rows, classes=classes, versions=versions())
    codec.write_file(out / "README.md", text.encode())
    codec.write_file(out / "examples.png", picture(out))
