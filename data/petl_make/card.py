"""The data card: README.md and examples.png beside the embedded tasks, made from the registry and the files."""

from __future__ import annotations

import io
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from petl_core.data.embedded import SHIFTS, SIZE, WORLD, load_embedded
from petl_core.utils import write_atomic
from petl_make import world
from petl_make.mini_clip import ClipRecipe
from petl_make.suite import embedded_tasks
from petl_make.world.captions import VOCABULARY

ACROSS, ZOOM, GAP = 16, 2, 2
MADE_WITH = ("numpy", "pillow", "fonttools", "scikit-image", "scikit-learn", "matplotlib")

TEXT = """# The embedded suite

Eleven tasks in the shape of VTAB-1K (Zhai et al., 2019, arXiv 1910.04867): 800 training, 200 validation and 1,000 test
images of {size} x {size} pixels in three groups. Free to redistribute; nothing is downloaded. This page and the
picture are written by the command that draws the data:

    python -m petl_make suite --out data/embedded          # draw everything again
    python -m petl_make suite --out data/embedded --check  # compare with what is here, change nothing

![Sixteen training images of each task, a task a row]({picture})

One task a row, in the order of the table.

| task | group | classes | what is asked | made from | licence |
|---|---|---|---|---|---|
{rows}

## How it is made
- **Chance.** Each sample has its own generator, PCG64 seeded with the task's name, the split and the sample's number,
  and uses its uniform doubles only. All drawing, resampling and ray casting is NumPy code in `data/petl_make/suite`,
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

## The rendered world
For the robustness chapter: the task `world`, twenty things in one style (*photo*: lit, textured, on a cluttered ground,
perhaps partly covered) with 800 training, 200 validation and 1,000 test pictures, and four shifted test sets of 1,000
that stand for ImageNet's: `v2` (a new sample; things a little smaller, turned more), `renditions` (eight other
styles), `sketch` (line drawings) and `hard` (target-style pictures that another model gets wrong).

![The five test sets of the world, a set a row, a class a column](world.png)

One row each: test, v2, renditions, sketch, hard. The classes: {things}.

    python -m petl_make world --out data/embedded --check  # draw everything, compare with world.json

- **Drawn, not shipped.** The pictures are drawn when first asked for and kept in the user's cache; `world.json` holds
  a digest of each part, so that a machine which draws other bits says so. Chance, drawing and rounding are as above.
  Licence: MIT, as this project.
- **Colour tells nothing**: each picture has random paints, chosen without looking at the class. Things are placed,
  scaled, turned, sheared, bent and mirrored at random, and their proportions vary.
- **The hard pictures** are those among {candidates:,} candidates that `mini`, fully fine-tuned on {filter:,} further
  pictures of the target's style (which are in no split), gets wrong: the first {each} of each class. So `hard` is hard
  for that model by construction and for others by kinship, as ImageNet-A is. (`mini_clip` started from the same weights
  as that model and never saw its pictures or labels.)
- **mini_clip** (`mini_clip.safetensors`, `mini_clip_text.safetensors`, log in `mini_clip_log.jsonl`): an image tower of
  `mini`'s shape, started from {start}, and a text tower of one block over {words} words, trained
  contrastively on {images:,} captioned pictures for {epochs} epochs:
  `python -m petl_make mini-clip`. Of these pictures {photos:.0%} are in the target's style. Of the
  captions {beside:.0%} name no thing, and of the others {wrong:.0%} a wrong one, as captions on the web do.
- **What was tuned.** The aim: zero-shot well above chance on all five sets, fine-tuning that raises the target by
  several points, and full fine-tuning that loses something on at least two shifts. The photo style was made easier once
  (less clutter, grain and blur), when a linear probe of `mini` on it was near chance; the learning rate, the share of
  photos and the noise of the captions were set after the first two epochs of a trial. Then the aim was measured, with
  full fine-tuning and LoRA and halfway to them; it held, and nothing was changed any more. That fine-tuning trades
  shifts for the target is therefore a property of this world and no finding; which method does so less was not chosen.

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


def world_facts() -> dict[str, object]:
    """What the text says of the rendered world."""
    recipe = ClipRecipe()
    facts: dict[str, object] = {
        name: getattr(recipe, name) for name in ("images", "epochs", "photos", "wrong", "beside")
    }
    facts |= {"things": ", ".join(world.CLASSES), "words": len(VOCABULARY), "candidates": world.CANDIDATES}
    facts |= {"start": f"the weights of `{recipe.start}`" if recipe.start else "random weights"}
    return facts | {"filter": world.FILTER_IMAGES, "each": world.COUNTS["hard"] // len(world.CLASSES)}


def picture(out: Path) -> bytes:
    """A PNG: a task a row, its first ``ACROSS`` training images with the classes in turn."""
    rows = []
    for task in (load_embedded(name, out) for name in embedded_tasks() if (out / f"{name}.npz").is_file()):
        images, labels, _ = task.split("train800")
        rows.append(images[in_turn(labels.numpy())[:ACROSS]].numpy())
    return sheet(rows)


def in_turn(labels: np.ndarray) -> np.ndarray:
    """The order of samples in which the classes come in turn."""
    rank = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    return np.lexsort((labels, rank))


def sheet(rows: list[np.ndarray]) -> bytes:
    """A PNG of rows of pictures, each row uint8 (n, 3, 32, 32)."""
    from PIL import Image

    step, across = SIZE * ZOOM + GAP, max((len(row) for row in rows), default=0)
    image = np.full((len(rows) * step + GAP, across * step + GAP, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = GAP + i * step, GAP + j * step
            tile = tile.transpose(1, 2, 0).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
            image[top : top + SIZE * ZOOM, left : left + SIZE * ZOOM] = tile
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_world(out: Path) -> None:
    """world.png: the first picture of each class of the world's five test sets, a set a row."""
    task, rows = load_embedded(WORLD, out), []
    for split in ("test", *SHIFTS):
        images, labels, _ = task.split(split)
        rows.append(images[in_turn(labels.numpy())[: task.num_classes]].numpy())
    write_atomic(out / "world.png", sheet(rows))


def write(out: Path) -> None:
    """README.md and examples.png for the tasks in ``out``."""
    tasks = embedded_tasks().values()
    rows = "\n".join(
        f"| {t.name} | {t.group} | {len(t.classes)} | {t.description} | {t.source} | {t.licence} |" for t in tasks
    )
    classes = "\n".join(f"- **{t.name}**: {', '.join(t.classes)}" for t in tasks)
    text = TEXT.format(
        size=SIZE, picture="examples.png", rows=rows, classes=classes, versions=versions(), **world_facts()
    )
    write_atomic(out / "README.md", text.encode())
    write_atomic(out / "examples.png", picture(out))
