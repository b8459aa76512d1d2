"""Is a folder the set that it should be? Other counts, labels or lists are refused, other bytes are said."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from petl_core.data.vtab import LISTS
from petl_core.utils import UserError
from petl_make.photographs.items import files
from petl_make.photographs.table import PhotoSet

FACTS = "photographs.json"  # beside the images: what they were made from, and their digests


class Digests(NamedTuple):
    """Sixteen digits of SHA-256 each. ``lists``: of train800.txt, val200.txt, test.txt and labels.txt one after the
    other, for PACS of the images' paths, a line each. ``files``: of all images in the order of their paths."""

    lists: str
    files: str


def images(row: PhotoSet, folder: Path) -> list[str]:
    """The paths of the images in a set's folder, sorted."""
    return [name for name in files(folder, f"{row.inside}/**/*".lstrip("/")) if name != FACTS]


def digests(row: PhotoSet, folder: Path) -> Digests:
    names = images(row, folder)
    lists, every = hashlib.sha256(), hashlib.sha256()
    if row.inside:
        for name in (*LISTS.values(), "labels.txt"):
            lists.update((folder / name).read_bytes())
    else:
        lists.update("".join(f"{name}\n" for name in names).encode())
    for name in names:
        every.update((folder / name).read_bytes())
    return Digests(lists.hexdigest()[:16], every.hexdigest()[:16])


def demand(row: PhotoSet, what: str, found: int, expected: int) -> None:
    """``UserError`` unless a count is as it must be."""
    if found != expected:
        raise UserError(f"{row.name}: {found:,} {what}, {expected:,} are expected; it is another version, not used")


def checked(row: PhotoSet, folder: Path) -> Digests:
    """The digests of a whole set. ``UserError`` where a count, a label, a class or an order is not as it must be."""
    for part, count in row.parts.items():
        found = [name for name in images(row, folder) if name.startswith(f"{row.inside}/{part}/".lstrip("/"))]
        demand(row, f"images in {part}", len(found), count)
    try:
        found_digests = digests(row, folder)
    except OSError as error:
        raise UserError(f"{row.name}: cannot read {error.filename}: {error.strerror}; move {folder} away") from error
    if found_digests.lists != row.lists:
        raise UserError(
            f"{row.name}: other labels, names or lists (digest {found_digests.lists}, expected {row.lists}); it is "
            f"another version, not used"
        )
    return found_digests


def told(row: PhotoSet, found: Digests) -> str:
    """One line: the set's numbers, and whether its bytes are those of the shipped records."""
    counts = " + ".join(f"{count:,}" for count in row.parts.values())
    line = f"{counts} images, {row.classes} classes, lists {found.lists}, files {found.files}"
    if found.files == row.files:
        return f"{line}, as expected"
    return f"{line}: OTHER BYTES ({row.files} expected), so records made with them have another data digest"
