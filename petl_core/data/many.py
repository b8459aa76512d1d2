"""The study's many-shot tasks: "real/cifar100@N", "real/resisc45@N" and "real/clevr_dist@N", N training images.

They are read from below the folder that PETL_DATA names (``SETS`` says where to get them and how they must lie), and
decoded once into packs of the cache (``packed``). Of the training images a tenth, at most as many as the largest of the
study's validation sets, is for choosing settings; the others are for training. Both are put into a fixed order, in
proportion of the classes, and N takes the beginning of each. So validation images are never trained on (the study's
CLEVR tuning trains on its validation images), and a smaller N is a part of a larger one.

The numbers N and their validation images are the study's, as are the test sets of CIFAR-100 (10,000) and CLEVR (its
validation images, 15,000, since its test images have no labels). RESISC45 has no split of its own: 6,300 images, 140 of
each class, are for testing; where the folder holds a list test.txt (lines "path label", as the study has), that is it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from petl_core.data.cache import Listed, cached_listing, file_entry, packed, packed_task
from petl_core.data.classes import files_by_class, listing
from petl_core.data.decode import CROPPED, PLAIN, Preparation
from petl_core.data.split import in_proportion
from petl_core.data.task import Counts, Task
from petl_core.data.vtab import read_list
from petl_core.utils import UserError, petl_data

DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # bounds of CLEVR's classes; VTAB's (closest_object_distance)
RESISC_TEST = 6300


@dataclass(frozen=True)
class Found:
    """What lies in a set's folder."""

    classes: tuple[str, ...]
    pool: list[Listed]  # to train and to choose settings with
    test: list[Listed]


@dataclass(frozen=True)
class RealSet:
    """One set. ``val_of``: N and how many of them are for validation. ``train``, ``test``: images it has in all.
    ``folders``: how its folder may be called; ``find`` gives what is in one, or None where it is laid out otherwise."""

    group: str
    classes: int
    val_of: dict[int, int]
    train: int
    test: int
    prepare: Preparation
    folders: tuple[str, ...]
    find: Callable[[Path], Found | None]
    layout: str


def counts(name: str) -> Counts:
    """Images and classes of ``real/<name>``; of a name that there is not, VTAB-1K's numbers."""
    base, _, amount = name.partition("@")
    if base not in SETS or not amount.isdecimal():
        return Counts()
    real = SETS[base]
    val = real.val_of.get(int(amount), Counts.val)
    return Counts(int(amount) - val, val, real.test, real.classes)


def load_real(name: str, size: int) -> Task:
    """The task ``real/<name>`` for a name such as "cifar100@500", at ``size`` pixels.

    UserError for a set or number that there is not, where PETL_DATA or the data are missing (with where to get them and
    how they must lie), where images are too few for N, a class has none, or a file is damaged.
    """
    base, _, text = name.partition("@")
    if base not in SETS:
        raise UserError(f"unknown task 'real/{name}'; there are: {', '.join(f'real/{known}@N' for known in SETS)}")
    real = SETS[base]
    if not text.isdecimal() or int(text) not in real.val_of:
        shown = ", ".join(f"real/{base}@{count}" for count in real.val_of)
        raise UserError(f"'real/{name}': the number of training images is {text!r}; there are {shown}")
    count, root = int(text), petl_data()
    found = _find(real, root)
    if found is None:
        raise UserError(
            f"the data of 'real/{name}' are not there. It is looked for below the folder that the environment variable "
            f"PETL_DATA names ({root or 'not set'}). {real.layout}"
        )
    order = in_proportion(np.array([entry.label for entry in found.pool]))
    kept = min(max(real.val_of.values()), len(order) // 10)
    n_val = real.val_of[count]
    val, train = order[:kept][:n_val], order[kept:][: count - n_val]
    here = f"{root} holds {len(found.pool):,} and {len(found.test):,}"
    if len(val) + len(train) < count or not found.test:
        raise UserError(
            f"'real/{name}' needs {count:,} training images and {real.test:,} test images; {here}. {real.layout}"
        )
    if (len(found.pool), len(found.test)) != (real.train, real.test):
        warnings.warn(
            f"{base} has {real.train:,} training and {real.test:,} test images, {here}: accuracies will not compare "
            "with others'",
            stacklevel=2,
        )
    chosen = [found.pool[i] for i in (*np.sort(train), *np.sort(val))]
    parts = [
        packed(f"{base}-{count}", chosen, size, real.prepare),
        packed(f"{base}-test", found.test, size, real.prepare),
    ]
    splits = {"train800": len(train), "val200": len(val), "test": len(found.test)}
    return packed_task(f"real/{name}", real.group, found.classes, parts=parts, splits=splits)


def _find(real: RealSet, root: Path | None) -> Found | None:
    """What is in the first of a set's folders that is there and laid out as it should be."""
    for folder in real.folders:
        if root is not None and (root / folder).is_dir() and (found := real.find(root / folder)):
            return found
    return None


def _cifar100(folder: Path) -> Found | None:
    """CIFAR-100 as images in train/ and test/, or as the published files."""
    if folder.name == "cifar-100-python":
        return _pickled(folder)
    if not all((folder / part).is_dir() for part in ("train", "test")):
        return None
    parts = {part: files_by_class(folder / part) for part in ("train", "test")}
    if different := set(parts["train"]) ^ set(parts["test"]):
        raise UserError(f"{folder}: train/ and test/ differ in their classes: {', '.join(sorted(different)[:5])}")
    files = listing(folder, parts)
    entries = [file_entry(folder, path, int(label)) for path, label in zip(files.paths, files.labels, strict=True)]
    first = len(np.flatnonzero(files.parts == "train"))
    return Found(files.classes, entries[:first], entries[first:])


def _pickled(folder: Path) -> Found:
    """CIFAR-100 from the files of cifar-100-python.tar.gz."""
    from torchvision.datasets import CIFAR100

    try:
        train, test = (CIFAR100(str(folder.parent), train=part) for part in (True, False))  # compares checksums first
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{folder} is not whole ({error}); unpack cifar-100-python.tar.gz again") from error
    entries = {}
    for part, held in (("train", train), ("test", test)):
        rows = enumerate(zip(held.data, held.targets, strict=True))
        entries[part] = [_pickled_entry(f"{part}/{number:05d}", image, label) for number, (image, label) in rows]
    return Found(tuple(train.classes), entries["train"], entries["test"])


def _pickled_entry(name: str, image: np.ndarray, label: int) -> Listed:
    mark = hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()
    return Listed(name, label, mark, functools.partial(Image.fromarray, image))


def _resisc45(folder: Path) -> Found:
    """RESISC45: class folders, and perhaps a list of the test images."""
    files = listing(folder, {"all": files_by_class(folder)})
    entries = [file_entry(folder, path, int(label)) for path, label in zip(files.paths, files.labels, strict=True)]
    if (folder / "test.txt").is_file():
        chosen = {file for file, _ in read_list(folder / "test.txt")}
        if lost := chosen - {entry.id for entry in entries}:
            raise UserError(
                f"{folder / 'test.txt'} names {min(lost)}, which is not in {folder}; paths are <class>/<image>"
            )
    else:
        order = in_proportion(files.labels)
        chosen = {entries[i].id for i in order[: min(RESISC_TEST, len(order) // 5)]}
    pool = [entry for entry in entries if entry.id not in chosen]
    return Found(files.classes, pool, [entry for entry in entries if entry.id in chosen])


def _clevr(folder: Path) -> Found | None:
    """CLEVR's training and validation images; its test scenes are not public."""
    parts = []
    for part in ("train", "val"):
        scenes = folder / "scenes" / f"CLEVR_{part}_scenes.json"
        if not scenes.is_file() or not (folder / "images" / part).is_dir():
            return None
        mark = scenes.stat()
        key = hashlib.sha256(f"{scenes.resolve()} {mark.st_size} {mark.st_mtime_ns}".encode()).hexdigest()[:16]
        rows = cached_listing(f"clevr-{part}-{key}", functools.partial(closest_objects, scenes))
        parts.append([file_entry(folder, folder / "images" / part / file, label) for file, label in rows])
    names = tuple(f"{low:g} to {high:g}" for low, high in itertools.pairwise(DISTANCES))
    return Found(names, *parts)


def closest_objects(scenes: Path) -> list[list[Any]]:
    """File name and label of each scene: which interval of ``DISTANCES`` (low, high] its closest object lies in."""
    try:
        held = json.loads(scenes.read_text(encoding="utf-8"))["scenes"]
        nearest = [min(thing["pixel_coords"][2] for thing in scene["objects"]) for scene in held]
        files = [scene["image_filename"] for scene in held]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{scenes} cannot be read ({type(error).__name__}: {error}); unpack CLEVR_v1.0.zip again"
        ) from error
    labels = np.searchsorted(DISTANCES, nearest, side="left") - 1
    if not labels.size or labels.min() < 0 or labels.max() >= len(DISTANCES) - 1:
        raise UserError(
            f"{scenes} has no scenes, or an object that is not between {DISTANCES[0]} and {DISTANCES[-1]} away"
        )
    return [[file, int(label)] for file, label in zip(files, labels, strict=True)]


SETS = {
    "cifar100": RealSet(
        group="natural",
        classes=100,
        val_of={500: 100, 1000: 200, 5000: 500, 10_000: 1000, 50_000: 1000},
        train=50_000,
        test=10_000,
        prepare=CROPPED,
        folders=("cifar100", "cifar-100-python"),
        find=_cifar100,
        layout="CIFAR-100 (python version) is at www.cs.toronto.edu/~kriz/cifar.html: unpack it, so that there is "
        "cifar-100-python/{train,test,meta}; or images as cifar100/{train,test}/<class>/<image>, without loss (.png)",
    ),
    "resisc45": RealSet(
        group="specialised",
        classes=45,
        val_of={225: 45, 450: 90, 900: 90, 2250: 225, 4500: 450, 9000: 900, 25_200: 2520},
        train=25_200,
        test=RESISC_TEST,
        prepare=CROPPED,
        folders=("NWPU-RESISC45", "resisc45", "RESISC45"),
        find=_resisc45,
        layout="NWPU-RESISC45 (31,500 images; Cheng, Han and Lu, 2017) is linked from gcheng-nwpu.github.io: unpack "
        "it, so that there is NWPU-RESISC45/<class>/<image>.jpg, 45 classes of 700",
    ),
    "clevr_dist": RealSet(
        group="structured",
        classes=6,
        val_of={1000: 200, 10_000: 1000, 70_000: 7000},
        train=70_000,
        test=15_000,
        prepare=PLAIN,
        folders=("CLEVR_v1.0", "clevr"),
        find=_clevr,
        layout="CLEVR (v1.0, 18 GB) is at cs.stanford.edu/people/jcjohns/clevr: unpack it, so that there is "
        "CLEVR_v1.0/images/{train,val}/*.png and CLEVR_v1.0/scenes/CLEVR_{train,val}_scenes.json",
    ),
}
