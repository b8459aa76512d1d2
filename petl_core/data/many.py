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

from petl_core.data.cache import Listed, cached_listing, packed, packed_task
from petl_core.data.folder import files_by_class, in_proportion, read_list
from petl_core.data.task import Task
from petl_core.utils import UserError, petl_data

Found = tuple[tuple[str, ...], list[Listed], list[Listed]]  # class names, training images, test images
DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # bounds of CLEVR's classes; VTAB's (closest_object_distance)
RESISC_TEST = 6300


@dataclass(frozen=True)
class RealSet:
    """``counts``: N and how many of them are for validation. ``train``, ``test``: how many images the set has."""

    group: str
    counts: dict[int, int]
    train: int
    test: int
    crop: bool  # see decode.py
    find: Callable[[Path], Found | None]
    layout: str


def load_real(name: str, size: int) -> Task:
    """The task ``real/<name>`` for a name such as "cifar100@500", at ``size`` pixels.

    UserError for a set or number that there is not, where PETL_DATA or the data are missing (with where to get them and
    how they must lie), where images are too few for N, a class has none, or a file is damaged.
    """
    base, _, text = name.partition("@")
    if base not in SETS:
        raise UserError(f"unknown task 'real/{name}'; there are: {', '.join(f'real/{known}@N' for known in SETS)}")
    real = SETS[base]
    if not text.isdecimal() or int(text) not in real.counts:
        shown = ", ".join(f"real/{base}@{count}" for count in real.counts)
        raise UserError(f"'real/{name}': the number of training images is {text!r}; there are {shown}")
    count, root = int(text), petl_data()
    where = f"It is looked for below the folder that the environment variable PETL_DATA names ({root or 'not set'})"
    found = real.find(root) if root is not None else None
    if found is None:
        raise UserError(f"the data of 'real/{name}' are not there. {where}. {real.layout}")
    classes, pool, test = found
    labels = np.array([entry.label for entry in pool])
    order = in_proportion(labels)
    kept = min(max(real.counts.values()), len(pool) // 10)
    n_val = real.counts[count]
    val, train = order[:kept][:n_val], order[kept:][: count - n_val]
    if len(val) + len(train) < count or not test:
        raise UserError(
            f"'real/{name}' needs {count:,} training images and {real.test:,} test images; {root} holds {len(pool):,} "
            f"and {len(test):,}. {real.layout}"
        )
    if (len(pool), len(test)) != (real.train, real.test):
        warnings.warn(
            f"{base} has {real.train:,} training and {real.test:,} test images, {root} holds {len(pool):,} and "
            f"{len(test):,}: accuracies will not compare with others'",
            stacklevel=2,
        )
    chosen = [pool[i] for i in (*np.sort(train), *np.sort(val))]
    parts = [packed(f"{base}-{count}", chosen, size, real.crop), packed(f"{base}-test", test, size, real.crop)]
    ends = np.cumsum([len(train), len(val), len(test)])
    pieces = np.split(np.arange(ends[-1]), ends[:2])
    splits = dict(zip(("train800", "val200", "test"), pieces, strict=True))
    return packed_task(f"real/{name}", real.group, classes, parts, splits)


def file_entry(root: Path, path: Path, label: int) -> Listed:
    """A file; its size is its mark."""
    try:
        return Listed(path.relative_to(root).as_posix(), label, str(path.stat().st_size), path)
    except OSError as error:
        raise UserError(f"image {path} cannot be read ({error.strerror}); unpack the data set again") from error


def _cifar100(root: Path) -> Found | None:
    folder = root / "cifar100"
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        parts = [files_by_class(folder / part) for part in ("train", "test")]
        names = tuple(parts[0])
        if different := set(parts[0]) ^ set(parts[1]):
            raise UserError(f"{folder}: train/ and test/ differ in their classes: {', '.join(sorted(different)[:5])}")
        pool, test = (
            [file_entry(folder, path, names.index(name)) for name, paths in part.items() for path in paths]
            for part in parts
        )
        return names, pool, test
    if not (root / "cifar-100-python").is_dir():
        return None
    from torchvision.datasets import CIFAR100

    entries = []
    for part in ("train", "test"):
        try:
            held = CIFAR100(str(root), train=part == "train")  # compares checksums before it unpickles
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(
                f"{root / 'cifar-100-python'} is not whole ({error}); unpack cifar-100-python.tar.gz again"
            ) from error
        entries.append(
            [
                Listed(
                    f"{part}/{i:05d}",
                    label,
                    hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest(),
                    _picture(image),
                )
                for i, (image, label) in enumerate(zip(held.data, held.targets, strict=True))
            ]
        )
        classes = tuple(held.classes)
    return classes, entries[0], entries[1]


def _picture(image: np.ndarray) -> Callable[[], Image.Image]:
    return lambda: Image.fromarray(image)


def _resisc45(root: Path) -> Found | None:
    folder = next((root / n for n in ("NWPU-RESISC45", "resisc45", "RESISC45") if (root / n).is_dir()), None)
    if folder is None:
        return None
    found = files_by_class(folder)
    classes = tuple(found)
    entries = [file_entry(folder, path, classes.index(name)) for name, paths in found.items() for path in paths]
    if (folder / "test.txt").is_file():
        chosen = {file for file, _ in read_list(folder / "test.txt")}
        if lost := chosen - {entry.id for entry in entries}:
            raise UserError(
                f"{folder / 'test.txt'} names {min(lost)}, which is not in {folder}; paths are <class>/<image>"
            )
        at = np.array([i for i, entry in enumerate(entries) if entry.id in chosen])
    else:
        order = in_proportion(np.array([entry.label for entry in entries]))
        at = np.sort(order[: min(RESISC_TEST, len(order) // 5)])
    held = set(at.tolist())
    return classes, [entry for i, entry in enumerate(entries) if i not in held], [entries[i] for i in at]


def _clevr(root: Path) -> Found | None:
    folder = next((root / n for n in ("CLEVR_v1.0", "clevr") if (root / n).is_dir()), None)
    if folder is None:
        return None
    parts = []
    for part in ("train", "val"):  # its test scenes are not public
        scenes = folder / "scenes" / f"CLEVR_{part}_scenes.json"
        if not scenes.is_file() or not (folder / "images" / part).is_dir():
            return None
        mark = scenes.stat()
        key = hashlib.sha256(f"{scenes.resolve()} {mark.st_size} {mark.st_mtime_ns}".encode()).hexdigest()[:16]
        rows = cached_listing(f"clevr-{part}-{key}", lambda scenes=scenes: _closest(scenes))  # type: ignore[misc]
        parts.append([file_entry(folder, folder / "images" / part / file, label) for file, label in rows])
    names = tuple(f"{low:g} to {high:g}" for low, high in itertools.pairwise(DISTANCES))
    return names, parts[0], parts[1]


def _closest(scenes: Path) -> list[list[Any]]:
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
        "natural",
        {500: 100, 1000: 200, 5000: 500, 10_000: 1000, 50_000: 1000},
        50_000,
        10_000,
        True,
        _cifar100,
        "CIFAR-100 (python version) is at www.cs.toronto.edu/~kriz/cifar.html: unpack it, so that there is "
        "cifar-100-python/{train,test,meta}; or images as cifar100/{train,test}/<class>/<image>, without loss (.png)",
    ),
    "resisc45": RealSet(
        "specialised",
        {225: 45, 450: 90, 900: 90, 2250: 225, 4500: 450, 9000: 900, 25_200: 2520},
        25_200,
        RESISC_TEST,
        True,
        _resisc45,
        "NWPU-RESISC45 (31,500 images; Cheng, Han and Lu, 2017) is linked from gcheng-nwpu.github.io: unpack it, so "
        "that there is NWPU-RESISC45/<class>/<image>.jpg, 45 classes of 700",
    ),
    "clevr_dist": RealSet(
        "structured",
        {1000: 200, 10_000: 1000, 70_000: 7000},
        70_000,
        15_000,
        False,
        _clevr,
        "CLEVR (v1.0, 18 GB) is at cs.stanford.edu/people/jcjohns/clevr: unpack it, so that there is "
        "CLEVR_v1.0/images/{train,val}/*.png and CLEVR_v1.0/scenes/CLEVR_{train,val}_scenes.json",
    ),
}
