"""Class folders of the study's data sets, whose layout is known: which image files are in each, by their names alone.

``survey`` reads the user's own folders, of which nothing is known.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from petl_core.data.decode import SUFFIXES
from petl_core.data.walk import hidden, walk
from petl_core.utils import UserError, as_given_or_below, petl_data

LAYOUT = "<folder>/<class>/<image>"

ByClass = dict[str, list[Path]]  # image files of each class


def fail(where: str | Path, found: str, expected: str = LAYOUT) -> NoReturn:
    """UserError: which place is wrong, what was found there, and what belongs there."""
    raise UserError(f"{where}: {found}. Expected {expected}")


def image_folder(place: str) -> Path:
    """The folder that the user named, as it stands or below PETL_DATA; UserError where there is none."""
    if not place.strip():
        raise UserError("the task's name names no folder; write folder:my_images")
    path = as_given_or_below(place)
    try:
        if path.is_dir():
            return path
        near = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise UserError(f"folder {place!a} cannot be read ({error})") from error
    if close := difflib.get_close_matches(path.name, near, n=3, cutoff=0.5):
        hint = f"did you mean {' or '.join(close)}?"
    else:
        hint = f"{path.parent} holds {', '.join(near[:20]) or 'no folders'}"
    if not path.is_absolute():
        hint += f"; nor is it below PETL_DATA ({petl_data() or 'not set'})"
    raise UserError(f"folder {path} does not exist; {hint}")


@dataclass(frozen=True)
class Listing:
    """Image files below a folder (M), their labels (M,), and the part (a split's folder, a domain) each is in (M,)."""

    root: Path
    classes: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    parts: np.ndarray


def class_folders(folder: Path, expected: str = LAYOUT) -> list[Path]:
    """The sub-folders, sorted. UserError where the folder or its sub-folders are missing."""
    if not folder.is_dir():
        fail(folder, "it does not exist", expected)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not hidden(entry.name))
    if not names:
        fail(folder, "it has no class folders", expected)
    return [folder / name for name in names]


def image_files(place: Path) -> list[Path]:
    """The image files in a class folder and below it, sorted. UserError where there is none.

    Names alone decide: there may be a million files."""
    inside = (place.joinpath(*file.parts) for file in walk(place).files)
    files = [path for path in inside if path.suffix.lower() in SUFFIXES]
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
