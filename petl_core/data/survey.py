"""A folder or list of the user's own pictures, read whole once: what is in it, how it is split, what speaks against it.

``survey`` is all that there is to know before anything is trained: ``folder.load_folder`` makes a task of it, and
``card`` says it in words.
"""

from __future__ import annotations

import urllib.parse
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from petl_core.data import lists
from petl_core.data.classes import image_folder
from petl_core.data.decode import RESIZES, SHORT_SIDE, Preparation, deep
from petl_core.data.layout import Layout, other_lists, shown, some, understand
from petl_core.data.scan import NO_PICTURE, OTHER, PICTURE, UNREADABLE, Scan, scan
from petl_core.data.split import Alike, alike, apart, by_pattern, joined, parted, split_sizes
from petl_core.data.walk import File, walk
from petl_core.utils import UserError, as_given_or_below

UNREADABLE_SHARE = 0.01  # of the pictures that may be left out
FEWEST = 3  # pictures of a class: one each to train, choose and test with
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")


@dataclass(frozen=True)
class Options:
    """What is asked for besides a folder. They are part of a task's name, so that every process reads it alike.

    ``resize``: crop, pad or squash; "" for what suits the pictures. ``group``: a regular expression, or a list's
    column. ``strict``: no file may be unreadable."""

    resize: str = ""
    group: str = ""
    strict: str = ""

    def __post_init__(self) -> None:
        if self.resize and self.resize not in RESIZES:
            raise UserError(f"resize is {self.resize!r}; choose one of {', '.join(RESIZES)}")


@dataclass(frozen=True)
class Survey:
    """``files`` (n) and the ``scan`` of them, ``ids`` their names; the ``layout`` of those that are pictures (m);
    ``groups`` and ``alike`` (m); ``splits`` rows of the layout; ``refused``: why there can be no task, if so."""

    root: Path
    files: list[File]
    ids: list[str]
    scan: Scan
    layout: Layout
    alike: Alike
    groups: np.ndarray
    splits: dict[str, np.ndarray]
    options: Options
    unreadable: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    refused: list[str] = field(default_factory=list)

    def of(self, column: str) -> np.ndarray:
        """A column of the scan (m,), for the pictures of the layout."""
        return self.scan[column][self.layout.rows]

    @property
    def names(self) -> list[str]:
        """The names (m) of the layout's pictures."""
        return [self.ids[row] for row in self.layout.rows.tolist()]

    def preparation(self, size: int) -> Preparation:
        """How the pictures become squares of ``size`` pixels. Photographs are cropped: sets of which at least half the
        pictures are larger than the square; smaller ones are whole already."""
        short = np.minimum(self.of("width"), self.of("height"))
        photographs = len(short) > 0 and np.median(short) >= round(size * SHORT_SIDE)
        modes = self.of("mode")
        floats = modes == "F"
        integers = np.array([deep(mode) for mode in modes.tolist()], dtype=bool) & ~floats
        return Preparation(
            self.options.resize or ("crop" if photographs else "squash"),
            upright=True,
            integers=self._range(integers, 255.0, 1023.0, 4095.0, 16383.0, 65535.0),
            floats=self._range(floats, 1.0, 255.0),
        )

    def _range(self, which: np.ndarray, *usual: float) -> tuple[float, float] | None:
        """One range for all deep pictures of the set: the smallest usual one that holds their values."""
        if not which.any():
            return None
        low, high = float(self.of("low")[which].min()), float(self.of("high")[which].max())
        fitting = [top for top in usual if low >= 0 and high <= top]
        return (0.0, fitting[0]) if fitting else (low, high)


def folder_or_list(place: str) -> tuple[Path, Options]:
    """The folder or list that the user named, as it stands or below PETL_DATA, and the options behind its "?".

    UserError where it does not exist."""
    where, options = parse(place)
    path = as_given_or_below(where).absolute()
    if not path.is_file():
        return image_folder(where).absolute(), options
    if path.suffix.lower() in ARCHIVES:
        raise UserError(f"{path} is an archive; unpack it, and name the folder")
    return path, options


def parse(place: str) -> tuple[str, Options]:
    """A path and the options of a name such as "images?resize=pad". UserError for an option that there is not."""
    where, marked, text = place.rpartition("?")
    if not marked or as_given_or_below(place).exists():
        return place, Options()
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
    allowed = ", ".join(Options.__dataclass_fields__)
    if not pairs or any(key not in Options.__dataclass_fields__ for key, _ in pairs):
        raise UserError(f"folder {place!r} does not exist; behind a '?' there may be {allowed}, such as ?resize=pad")
    return where, Options(**dict(pairs))


def with_options(name: str, options: Options) -> str:
    """The name of a task with options; the opposite of ``parse``."""
    given = {key: value for key, value in vars(options).items() if value}
    return f"{name}?{urllib.parse.urlencode(given)}" if given else name


class Read(NamedTuple):
    """What was read of a folder or list: ``files`` and their names ``ids``, how they are arranged, what is left out,
    and in words which lists lie beside the pictures."""

    files: list[File]
    ids: list[str]
    scan: Scan
    layout: Layout
    left_out: list[tuple[str, str]]
    lists: str = ""


def survey(place: str) -> Survey:
    """Look at the folder or list. UserError where there are no pictures with classes; what else speaks against a task
    is in ``refused``, so that it can be shown with the rest."""
    path, options = folder_or_list(place)
    read, root = (_list(path, options), path.parent) if path.is_file() else (_folder(path), path)
    ids, kinds, whys = read.ids, read.scan["kind"], read.scan["why"].tolist()
    left_out = [(shown(name), why) for name, why in (*read.left_out, *read.layout.left_out)]
    left_out += [(ids[row], whys[row]) for row in np.flatnonzero(kinds == OTHER).tolist()]
    rows = read.layout.rows
    unreadable = [(ids[row], whys[row]) for row in np.sort(rows[kinds[rows] == UNREADABLE]).tolist()]
    refused = []
    if unreadable and (options.strict or len(unreadable) > UNREADABLE_SHARE * len(rows)):
        named = "; ".join(f"{name}: {why}" for name, why in unreadable[:50])
        refused.append(f"{len(unreadable)} of {len(rows)} pictures cannot be read, replace or remove them: {named}")
    layout = _readable(read.layout, kinds)
    same = alike(read.scan, layout.rows)
    groups, splits = same.near, {}
    try:
        _demand_classes(layout, root, read.lists)
        groups = _grouped(layout, same, options, [ids[row] for row in layout.rows])
        splits = _splits(layout, groups, root)
    except UserError as error:
        refused.append(str(error))
    return Survey(
        root, read.files, ids, read.scan, layout, same, groups, splits, options, unreadable, left_out, refused
    )


def _list(path: Path, options: Options) -> Read:
    files, ids, layout = lists.read_list(path, options.group)
    return Read(files, ids, scan(path.parent, files), layout, [])


def _folder(path: Path) -> Read:
    tree, root = walk(path), shown(str(path))
    files, ids = tree.files, [shown("/".join(file.parts)) for file in tree.files]
    found = scan(path, files)
    others, usable = (np.flatnonzero(which) for which in (found["kind"] == OTHER, found["kind"] != OTHER))
    _demand_readable(path, [(ids[row], str(found["why"][row])) for row in others], len(usable))
    foreign = [files[row].parts for row in others if found["why"][row] != NO_PICTURE]
    unfilled = {parts[:level] for parts in foreign for level in range(1, len(parts))}  # folders, perhaps classes
    names = sorted(ids[row] for row in others)
    layout = understand([files[row].parts for row in usable], [*tree.empty, *unfilled], names, root)
    layout.rows = usable[layout.rows]
    return Read(files, ids, found, layout, tree.left_out, other_lists(names, root))


def _demand_readable(path: Path, others: list[tuple[str, str]], usable: int) -> None:
    """UserError for a folder without pictures, that says which files need another package."""
    if not usable and others:
        kinds = Counter(why for _, why in others).most_common(3)
        raise UserError(
            f"{shown(str(path))} has no picture that can be read, but {len(others)} other files: "
            f"{some((name for name, _ in others), 5)} ({', '.join(f'{count} {why}' for why, count in kinds)})"
        )


def _readable(layout: Layout, kinds: np.ndarray) -> Layout:
    """The layout without its unreadable pictures."""
    keep = kinds[layout.rows] == PICTURE
    groups = None if layout.groups is None else tuple(np.array(layout.groups, dtype=object)[keep].tolist())
    return replace(layout, rows=layout.rows[keep], labels=layout.labels[keep], parts=layout.parts[keep], groups=groups)


def _demand_classes(layout: Layout, root: Path, lists: str) -> None:
    """UserError unless there are two classes or more, each with enough pictures to learn from and to choose with."""
    if len(layout.classes) < 2:
        one = ", ".join(map(repr, layout.classes))
        raise UserError(f"{root} has one class, {one}; two or more are needed" + (f"; {lists}" if lists else ""))
    fewest = 1 if "val" in layout.parts else 2 if "test" in layout.parts else FEWEST
    counts = np.bincount(layout.labels[layout.parts != "test"], minlength=len(layout.classes))
    if few := [f"class {layout.classes[i]!r} has {counts[i]} image(s)" for i in np.flatnonzero(counts < fewest)]:
        raise UserError(f"{root}: {some(few)} to share out; at least {fewest} of each class are needed")
    if "train" in layout.parts:
        trained = np.bincount(layout.labels[layout.parts == "train"], minlength=len(layout.classes))
        if not trained.all():
            raise UserError(f"{root}: train has no picture of {some(np.array(layout.classes)[trained == 0])}")


def _grouped(layout: Layout, same: Alike, options: Options, ids: list[str]) -> np.ndarray:
    """The groups (m,) that are kept on one side: pictures that look alike, and those of the user's groups."""
    parts = 2 if "train" in layout.parts else FEWEST
    groups = apart(layout.labels, same.near, parts)
    if not options.group:
        return groups
    named = np.unique(layout.groups, return_inverse=True)[1] if layout.groups else by_pattern(options.group, ids)
    if len(np.unique(named)) < parts:
        raise UserError(f"--group {options.group!r} makes {len(np.unique(named))} groups; {parts} or more are needed")
    order = np.argsort(groups, kind="stable")
    chained = np.flatnonzero(groups[order][:-1] == groups[order][1:])
    return joined(named, np.stack([order[chained], order[chained + 1]], axis=1))


def _splits(layout: Layout, groups: np.ndarray, root: Path) -> dict[str, np.ndarray]:
    """Rows of the layout for each split. Given splits are kept; val is a fifth of train where it is not given."""
    parts, labels = layout.parts, layout.labels
    train, val, test = (np.flatnonzero(parts == part) for part in ("train", "val", "test"))
    if "all" in parts:
        sizes = split_sizes(len(labels))
        part = parted(labels, groups, [sizes[i] / len(labels) for i in (0, 2, 1)])
        train, test, val = (np.flatnonzero(part == number) for number in range(3))
    elif not len(val):
        part = parted(labels[train], groups[train], (0.8, 0.2))
        train, val = train[part == 0], train[part == 1]
    splits = {"train800": train, "val200": val, "test": test}
    if lacking := [name for name, rows in splits.items() if not len(rows)]:
        raise UserError(f"{root}: nothing is left for {', '.join(lacking)}; give more pictures, or smaller groups")
    if missing := set(range(len(layout.classes))) - set(labels[train].tolist()):
        raise UserError(
            f"{root}: with these groups there is no picture to train {some(layout.classes[i] for i in sorted(missing))}"
        )
    return splits
