"""All files below a folder, with what is hidden, what belongs to a tool or the system, and our own results left out.

Links are followed, each real folder once, so that a loop ends; what lies in a folder itself comes before what links
lead to. What is left out is counted: nothing is dropped without a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from petl_core.utils import UserError

TOOLS = {  # of systems and tools, in lower case; names that begin with a dot are hidden anyway
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found"),
    *("system volume information", "__pycache__", "node_modules"),
}
SPLITS = {  # what the folders of given splits, and the values of a column for them, are called
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
FILLING = {"", "set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder"}
Parts = tuple[str, ...]


class File(NamedTuple):
    """A file by its path below the folder, its size in bytes, and when it was changed (nanoseconds)."""

    parts: Parts
    size: int
    changed: int


@dataclass
class Tree:
    """``files`` by their paths, sorted; ``empty``: folders with nothing below them; ``left_out``: path and reason."""

    root: Path
    files: list[File] = field(default_factory=list)
    empty: list[Parts] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def hidden(name: str) -> bool:
    """Is this the name of a file or folder that is hidden, or that a system or tool made?"""
    return name.startswith(".") or name.lower() in TOOLS


def split_of(name: str) -> tuple[str, str]:
    """The split that a name stands for ("" if for none), and what else the name says: of "ASL_Test2017" test and asl.
    Words that say nothing (set, images, data) do not count."""
    words = [word for word in re.split("[^a-z]+", name.casefold()) if word not in FILLING]
    found = [word for word in words if word in SPLITS]
    if len(found) != 1:
        return "", name
    return SPLITS[found[0]], " ".join(word for word in words if word != found[0])


def own_results(names: set[str]) -> bool:
    """Do these names stand in a folder that this package wrote: records, a plan, a report?"""
    planned = any(name.startswith("plan-") and name.endswith(".json") for name in names)
    return planned or names == {"records"} or {"report.html", "table.csv"} <= names or "records.jsonl" in names


def walk(root: Path, depth: int = 1000) -> Tree:
    """Everything down to so many levels below ``root``. UserError where a folder cannot be read."""
    tree = Tree(root)
    seen: set[tuple[str, int, int]] = set()
    linked: list[Parts] = []
    _enter(tree, (), seen, linked, depth)
    for place in linked:  # which grows meanwhile
        _enter(tree, place, seen, linked, depth)
    tree.files.sort()
    return tree


def _enter(tree: Tree, top: Parts, seen: set[tuple[str, int, int]], linked: list[Parts], depth: int) -> None:
    """One folder and those below it; links to folders are noted for later."""
    pending = [top]
    while pending:
        place = pending.pop()
        try:
            entries = list(_entries(tree, place, seen))
        except OSError as error:
            raise UserError(f"cannot read the folder {tree.root.joinpath(*place)}: {error.strerror}") from error
        for entry in entries:
            parts = (*place, entry.name)
            try:
                if entry.is_dir():
                    if len(parts) < depth:
                        (linked if entry.is_symlink() else pending).append(parts)
                elif entry.is_file():
                    stat = entry.stat()
                    tree.files.append(File(parts, stat.st_size, stat.st_mtime_ns))
                else:
                    tree.left_out.append(("/".join(parts), "link to nothing" if entry.is_symlink() else "no file"))
            except OSError:  # a link that leads to itself
                tree.left_out.append(("/".join(parts), "link to nothing"))


def _entries(tree: Tree, place: Parts, seen: set[tuple[str, int, int]]) -> Iterator[os.DirEntry[str]]:
    """What is to be looked at in a folder."""
    folder, shown = tree.root.joinpath(*place), "/".join(place)
    stat = folder.stat()
    itself = (split_of(place[0])[0] if place else "", stat.st_dev, stat.st_ino)  # once in each split
    if itself in seen:
        tree.left_out.append((shown, "folder read already, under another name"))
        return
    seen.add(itself)
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    if place and own_results({entry.name for entry in entries}):
        tree.left_out.append((shown, "results of a comparison"))
        return
    for entry in entries:
        if hidden(entry.name):
            tree.left_out.append(("/".join((*place, entry.name)), "hidden, or of a system or tool"))
    kept = [entry for entry in entries if not hidden(entry.name)]
    if not kept and place:
        tree.empty.append(place)
    yield from kept
