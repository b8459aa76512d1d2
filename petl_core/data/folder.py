"""A task from a folder of the user's own images: one sub-folder a class, perhaps below train/, val/ and test/.

Nothing is cached on disk; a task of 3,000 images is decoded in seconds by a few threads.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from petl_core.data.decode import SUFFIXES, decode_images
from petl_core.data.task import GIVEN, Task, make_task
from petl_core.utils import UserError, as_given_or_below, petl_data

PARTS = ("train", "val", "test")
SPLIT_SEED = 0
LAYOUT = "<folder>/<class>/<image>, or <folder>/{train,val,test}/<class>/<image>"

ByClass = dict[str, list[Path]]  # image files of each class


def fail(where: str | Path, found: str, expected: str = LAYOUT) -> NoReturn:
    """UserError: which place is wrong, what was found there, and what belongs there."""
    raise UserError(f"{where}: {found}. Expected {expected}")


@dataclass(frozen=True)
class Listing:
    """Image files below a folder (M), their labels (M,), and the part (a split's folder, a domain) each is in (M,)."""

    root: Path
    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    parts: np.ndarray


def image_folder(place: str) -> Path:
    """The folder that the user named, as it stands or below PETL_DATA; UserError where there is none."""
    if not place.strip():
        fail("the task's name", "it names no folder")
    path = as_given_or_below(place)
    if path.is_dir():
        return path
    near = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
    if close := difflib.get_close_matches(path.name, near, n=3, cutoff=0.5):
        hint = f"did you mean {' or '.join(close)}?"
    else:
        hint = f"{path.parent} holds {', '.join(near[:20]) or 'no folders'}"
    if not path.is_absolute():
        hint += f"; nor is it below PETL_DATA ({petl_data() or 'not set'})"
    raise UserError(f"folder {path} does not exist; {hint}")


def class_folders(folder: Path, expected: str = LAYOUT) -> list[Path]:
    """The sub-folders, sorted. UserError where the folder or its sub-folders are missing."""
    if not folder.is_dir():
        fail(folder, "it does not exist", expected)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        fail(folder, "it has no class folders", expected)
    return [folder / name for name in names]


def image_files(place: Path) -> list[Path]:
    """The image files in a class folder and below it, sorted. UserError where there is none.

    Names alone decide: there may be a million files."""
    inside = (Path(top, name) for top, _, names in os.walk(place) for name in names if not name.startswith("."))
    files = sorted(path for path in inside if path.suffix.lower() in SUFFIXES)
    if not files:
        fail(f"class folder {place}", "it has no images", f"files named {', '.join(SUFFIXES)}, or no such folder")
    return files


def files_by_class(folder: Path, expected: str = LAYOUT) -> ByClass:
    """Image files of each class sub-folder, sorted. UserError where there is no class, or one is empty."""
    return {place.name: image_files(place) for place in class_folders(folder, expected)}


def listing(root: Path, parts: Mapping[str, ByClass]) -> Listing:
    """All files, part by part and class by class; the classes are those of the first part, in alphabetical order.
    UserError where another part has a class that the first lacks."""
    first = next(iter(parts))
    classes = tuple(parts[first])
    for part, found in parts.items():
        if unknown := sorted(set(found) - set(classes)):
            fail(root / part, f"the classes {', '.join(unknown[:5])} are not in {root / first}")
    rows = [
        (path, label, part)
        for part, found in parts.items()
        for label, name in enumerate(classes)
        for path in found.get(name, ())
    ]
    paths, labels, names = zip(*rows, strict=True)
    return Listing(root, classes, list(paths), np.array(labels), np.array(names))


def split_sizes(total: int) -> tuple[int, int, int]:
    """How many of ``total`` images go to train, val and test.

    With 2,000 or more: 800, 200 and the rest. With fewer, half are for testing, and the other half is parted four to
    one.
    """
    if total >= 2000:
        return 800, 200, total - 1000
    train = max(1, round(total * 0.4))
    val = max(1, round(total * 0.1))
    return train, val, total - train - val


def in_proportion(labels: np.ndarray, seed: int = SPLIT_SEED) -> np.ndarray:
    """All sample indices in an order of which every beginning has its share of every class to within one.

    Each class's samples are shuffled and spread evenly over [0, 1); the order is that of their places."""
    generator = np.random.Generator(np.random.PCG64(seed))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(generator.random(len(members)), kind="stable")]
        place[order] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")


def stratified(labels: np.ndarray, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test with each class shared out in proportion; the same for the same labels."""
    train, val, _ = split_sizes(len(labels))
    parts = np.split(in_proportion(labels, seed), [train, train + val])
    return tuple(np.sort(part) for part in parts)  # type: ignore[return-value]


def load_folder(place: str, size: int) -> Task:
    """A task from one folder per class.

    Where train/ and test/ lie in the folder (val/ too, or a fifth of train/ becomes val), they are the splits.
    Otherwise the images are split by ``stratified``. Raises UserError where a class has fewer than three images or is
    alone.
    """
    root = image_folder(place)
    if (root / "train").is_dir() and (root / "test").is_dir():
        files = listing(root, {part: files_by_class(root / part) for part in PARTS if (root / part).is_dir()})
        return task_of_files(f"folder:{root.name}", files, _given_splits(files), size)
    files = listing(root, {"all": files_by_class(root)})
    return task_of_files(f"folder:{root.name}", files, _shared_out(files), size)


def _shared_out(files: Listing) -> dict[str, np.ndarray]:
    """The splits of a folder that holds classes alone."""
    demand_images(files, files.labels, 3)
    return dict(zip(GIVEN, stratified(files.labels), strict=True))


def _given_splits(files: Listing) -> dict[str, np.ndarray]:
    """The splits of a folder with train/ and test/, and perhaps val/."""
    train, val, test = (np.flatnonzero(files.parts == part) for part in PARTS)
    demand_images(files, files.labels[files.parts != "test"], 1 if len(val) else 2)
    if not len(val):
        first, second, third = stratified(files.labels[train])
        order = np.concatenate([first, third, second])
        fifth = max(1, len(train) // 5)
        train, val = np.sort(train[order[:-fifth]]), np.sort(train[order[-fifth:]])
    return {"train800": train, "val200": val, "test": test}


def demand_images(files: Listing, labels: np.ndarray, fewest: int) -> None:
    """UserError unless there are two classes or more, with at least ``fewest`` of the labels (M,) each."""
    if len(files.classes) < 2:
        fail(files.root, f"it has one class, {files.classes[0]!r}", "two or more class folders")
    counts = np.bincount(labels, minlength=len(files.classes))
    if counts.min() < fewest:
        name = files.classes[int(counts.argmin())]
        fail(files.root, f"class {name!r} has {counts.min()} image(s) to share out", f"at least {fewest} of each class")


def task_of_files(name: str, files: Listing, splits: Mapping[str, np.ndarray], size: int) -> Task:
    """The task of a listing, its images decoded at ``size`` pixels; a sample is named by its path below the root."""
    images = decode_images(files.paths, size)
    ids = tuple(path.relative_to(files.root).as_posix() for path in files.paths)
    return make_task(name, "other", files.classes, images=images, labels=files.labels, ids=ids, splits=splits)
