"""Which images a set is drawn from, in which order, with which labels: one function for each rule of ``table``.

A rule reads the tree of the origin. Paths are sorted as POSIX text by code point, on every system alike, because a
seeded shuffle follows.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from petl_core.data.decode import open_image, prefetched
from petl_core.utils import UserError
from petl_make.photographs.table import SIGNS

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ELEVATIONS = {"000": 0, "022": 1, "035": 2, "045": 3, "066": 4, "068": 4, "090": 5}
ELEVATION_NAMES = ("0 deg", "22 deg", "35 deg", "45 deg", "66-68 deg", "90 deg")
OF_DOMAIN = 150  # images of a class in a domain of PACS

Found = TypeVar("Found")
Item = tuple[Callable[[], Image.Image], int]  # what opens an image, and its label


@dataclass(frozen=True)
class Items:
    """Images to draw from, those of a stated test list (None: what is left is for testing), and names of classes."""

    pool: list[Item]
    test: list[Item] | None
    names: list[str]


def files(tree: Path, pattern: str) -> list[str]:
    """The files below ``tree`` that match, as sorted POSIX paths; hidden ones are left out."""
    found = (path.relative_to(tree) for path in tree.glob(pattern) if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def folders(tree: Path) -> list[str]:
    """The names of the folders in ``tree``, sorted by code point."""
    return sorted(path.name for path in tree.iterdir() if path.is_dir() and not path.name.startswith("."))


def read(path: Path) -> Image.Image:
    """An image file as RGB, by Pillow's own conversion."""
    with open_image(path) as image:
        return image.convert("RGB")


def item(path: Path, label: int) -> Item:
    return functools.partial(read, path), label


def _lines(path: Path) -> list[str]:
    """The lines of a list of the origin that are not empty."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _by_folder(tree: Path, suffix: str, names: list[str] | None = None) -> Items:
    """Every image of each class folder; the folders that hold one are the classes, sorted."""
    found = files(tree, f"*/*{suffix}")
    classes = names or sorted({name.partition("/")[0] for name in found})
    pool = [item(tree / name, classes.index(name.partition("/")[0])) for name in found]
    return Items(pool, None, classes)


def caltech101(tree: Path) -> Items:
    inside = tree / "101_ObjectCategories"
    names = folders(inside)

    def listed(file: str) -> list[Item]:
        return [item(inside / line, names.index(line.partition("/")[0])) for line in _lines(tree / file)]

    return Items(listed("train.txt"), listed("test.txt"), names)


def eurosat(tree: Path) -> Items:
    return _by_folder(tree / "EuroSAT_Dataset", ".jpg")


def sign_digits(tree: Path) -> Items:
    return _by_folder(tree / "Dataset", ".JPG", [str(digit) for digit in range(10)])


def rsscn7(tree: Path) -> Items:
    found = _by_folder(tree, ".jpg")
    return Items(found.pool, None, [name[1:] for name in found.names])  # "aGrass": Grass


def coil20(tree: Path) -> Items:
    """Label: of 72 views in steps of 5 degrees, six a class; ``objN__k.png`` is view k."""
    found = files(tree, "dataset/*.png")
    names = [f"{start}-{start + 30} deg" for start in range(0, 360, 30)]
    return Items([item(tree / name, int(Path(name).stem.rpartition("__")[2]) // 6) for name in found], None, names)


def pneumonia(tree: Path) -> Items:
    with np.load(tree / "data" / "pneumoniamnist.npz", allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in arrays.files}

    def of(split: str) -> list[Item]:
        pairs = zip(loaded[f"{split}_images"], loaded[f"{split}_labels"].ravel().tolist(), strict=True)
        return [(functools.partial(_grey, image), label) for image, label in pairs]

    return Items(of("train"), of("test"), ["normal", "pneumonia"])


def _grey(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).convert("RGB")


def cifar10(tree: Path) -> Items:
    """A part of each half, drawn by lot in the order of the paths: a quarter of test, six of a hundred of train."""
    lot, parts = random.Random(1), {"test": 0.25, "train": 0.06}
    kept: dict[str, list[Item]] = {part: [] for part in parts}
    for part, share in parts.items():
        for name in files(tree, f"{part}/*/*"):
            if lot.random() < share:
                kept[part].append(item(tree / name, CIFAR_CLASSES.index(name.split("/")[1])))
    return Items(kept["train"], kept["test"], CIFAR_CLASSES)


def gtsrb(tree: Path) -> Items:
    """The last frame of each track of the training images, and every line of the test list."""
    base = tree / "GTSRB"
    last = {}  # of each track: class folder and first number
    for name in files(base, "Final_Training/Images/*/*.ppm"):
        last[name.rpartition("_")[0]] = item(base / name, int(name.split("/")[2]))
    text = (base / "Final_Test" / "GT-final_test.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(text, delimiter=";" if ";" in text[0] else ",")
    images = base / "Final_Test" / "Images"
    return Items(
        list(last.values()),
        [item(images / row["Filename"], int(row["ClassId"])) for row in rows],
        re.split(r"[|\n]", SIGNS),
    )


def birds(tree: Path) -> Items:
    """Flag 0 is training (its README says otherwise; see ``table``)."""
    base = tree / "ex03" / "task2" / "bird_dataset"

    def table(name: str) -> dict[str, str]:
        pairs = (line.partition(",") for line in _lines(base / name))
        return {key.strip(): value.strip() for key, _, value in pairs}

    labels, flags = table("image_class_labels.txt"), table("train_test_split.txt")
    parts: dict[str, list[Item]] = {"0": [], "1": []}
    for key, name in table("images.txt").items():
        parts[flags[key]].append(item(base / "images" / name, int(labels[key])))
    return Items(parts["0"], parts["1"], [name.replace("_", " ") for name in table("classes.txt").values()])


def eth80(tree: Path) -> Items:
    """``<kind>/<object>/<name>-EEE-AAA.png``: objects 1 to 5 of a kind to train, 6 to 10 to test; label: elevation."""
    parts: dict[bool, list[Item]] = {False: [], True: []}
    for name in files(tree, "*/*/*.png"):
        path = tree / name
        on_black = functools.partial(_on_black, path, path.parent / "maps" / f"{path.stem}-map.png")
        parts[int(name.split("/")[1]) > 5].append((on_black, ELEVATIONS[path.stem.split("-")[-2]]))
    return Items(parts[False], parts[True], list(ELEVATION_NAMES))


def _on_black(path: Path, shape: Path) -> Image.Image:
    """The image, black where the map of its object is below 128."""
    with open_image(shape) as image:
        inside = np.asarray(image.convert("L")) >= 128
    return Image.fromarray(np.asarray(read(path)) * inside[:, :, None].astype(np.uint8))


def pacs(tree: Path) -> dict[str, Path]:
    """Of each class of each domain 150 images, drawn by lot: new name and file of each."""
    lot, base = random.Random(2), tree / "PACS"
    chosen: dict[str, Path] = {}
    for domain in folders(base):
        for kind in folders(base / domain):
            names = files(base, f"{domain}/{kind}/*")
            lot.shuffle(names)
            chosen |= {f"{name.rpartition('.')[0]}.jpg": base / name for name in names[:OF_DOMAIN]}
    return chosen


def once(items: Items) -> Items:
    """Each picture (its size and pixels) once in the pool, in order, and none of the test list there."""
    seen = {digest for _, digest in prefetched(items.test or (), _digest)}
    pool = []
    for one, digest in prefetched(items.pool, _digest):
        if digest not in seen:
            pool.append(one)
            seen.add(digest)
    return Items(pool, items.test, items.names)


def _digest(one: Item) -> bytes:
    image = one[0]()
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()


def draw(items: Items, sizes: Mapping[str, int]) -> dict[str, list[Item]]:
    """The items of train800, val200 and test: drawn by lot (seed 0), test from the stated list or from what is left."""
    lot, pool = random.Random(0), list(items.pool)
    lot.shuffle(pool)
    train, val, test = sizes.values()
    rest = pool[train + val :] if items.test is None else list(items.test)
    lot.shuffle(rest)
    return dict(zip(sizes, (pool[:train], pool[train : train + val], rest[:test]), strict=True))


RULES: dict[str, Callable[[Path], Items]] = {
    rule.__name__: rule
    for rule in (caltech101, eurosat, coil20, sign_digits, pneumonia, cifar10, gtsrb, birds, rsscn7, eth80)
}


def found_by(rule: Callable[[Path], Found], tree: Path) -> Found:
    """What a rule finds in the origin's tree. ``UserError`` where the tree is not of the form that it expects."""
    try:
        return rule(tree)
    except (OSError, KeyError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{tree} is not of the form of that repository ({type(error).__name__}: {error})") from error
