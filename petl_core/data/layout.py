"""What a folder's sub-folders mean: classes, splits with classes in them, or one folder too many around either."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from petl_core.data.walk import FILLING, SPLITS, Parts, split_of
from petl_core.utils import UserError

LAYOUT = (
    "<folder>/<class>/<image>, or <folder>/{train,val,test}/<class>/<image>, or a list (CSV) with the columns path and "
    "label"
)
SHOWN = 20  # names in a message
ORDER = {"all": 0, "train": 0, "val": 1, "test": 2}
Placed = tuple[int, str, str]  # a picture's row in the list of files, its class and its part


@dataclass(frozen=True)
class Finding:
    """Something to know about a set: what, how many, what is done about it or can be done, and which files."""

    kind: str
    count: int
    text: str
    files: tuple[str, ...] = ()
    serious: bool = True


@dataclass
class Layout:
    """Which files are used: ``rows`` into the list of files, their ``labels`` into ``classes``, and ``parts`` ("train",
    "val", "test", or "all" where no splits are given). ``text`` says how the folder was understood. ``groups``: a name
    for each row, where a list has a column for them."""

    text: str
    classes: tuple[str, ...]
    rows: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    findings: list[Finding] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    groups: tuple[str, ...] | None = None


def shown(name: str) -> str:
    """A name as it can be printed: control characters and bytes that are not UTF-8 are escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def some(names: Iterable[str], most: int = SHOWN) -> str:
    """The first few names, with commas, and how many more there are."""
    names = [shown(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def class_name(name: str) -> str:
    """A class's name in the one form that is compared: composed letters, printable, no blanks around."""
    return shown(unicodedata.normalize("NFC", name)).strip()


def understand(files: Sequence[Parts], empty: Sequence[Parts], others: Sequence[str], root: str) -> Layout:
    """The layout of pictures by their paths below a folder, of its empty folders and its other files. UserError where
    there is none; it says which of these might be a list."""
    top = _outer(files)
    inside = [(row, parts[len(top) :]) for row, parts in enumerate(files) if parts[: len(top)] == top]
    children = {parts[0] for _, parts in inside if len(parts) > 1}
    place = "/".join((root, *map(shown, top)))
    roles = _splits(children, inside)
    if not children or (not roles and len(children) > 1 and all(split_of(child)[0] for child in children)):
        _no_classes(place, [parts[-1] for _, parts in inside], others, root)
    findings = []
    if top:
        findings.append(Finding("one folder too many", 1, f"{place} is read; the same: compare {place}", serious=False))
    if roles:
        placed, text = _in_splits(inside, roles, place)
    elif inner := _splits_inside(inside, children):
        placed, text = inner, f"classes with splits in them: {', '.join(sorted({p for _, _, p in inner}))}"
    else:
        placed = [(row, parts[0], "all") for row, parts in inside if len(parts) > 1]
        text = "class folders, no splits"
        findings += _nested(inside, place)
    beside = sorted(set(range(len(files))) - {row for row, _, _ in placed})
    at = [parts[len(top) :] for parts in empty if parts[: len(top)] == top]
    if roles:  # a class that test lacks is said, one that train lacks is an error
        at = [parts[1:] for parts in at if roles.get(parts[0]) == "train"]
    unfilled = {class_name(parts[0]) for parts in at if len(parts) == 1}
    if lost := sorted(unfilled - {class_name(name) for _, name, _ in placed}):
        raise UserError(f"class folder {some(lost)} in {place} has no images; add some, or remove the folder")
    left_out = [("/".join(files[row]), "beside the class folders") for row in beside]
    return arranged(text, placed, findings, left_out, place)


def _outer(files: Sequence[Parts]) -> Parts:
    """The folders around the one that holds classes or splits: while one sub-folder alone holds pictures, and these lie
    in sub-folders of its own."""
    top: Parts = ()
    while True:
        below = [parts[len(top) :] for parts in files if parts[: len(top)] == top]
        children = {parts[0] for parts in below if len(parts) > 1}
        if len(children) != 1 or not any(len(parts) > 2 for parts in below):
            return top
        top = (*top, children.pop())


def _splits(children: set[str], inside: Sequence[tuple[int, Parts]]) -> dict[str, str]:
    """Which sub-folders are which split. A split holds class folders; a sub-folder called train that holds pictures is
    a class (railways)."""
    holds_folders = {parts[0] for _, parts in inside if len(parts) > 2}
    told = {child: split_of(child) for child in children & holds_folders}
    alike: dict[str, set[str]] = defaultdict(set)
    for split, rest in told.values():
        if split:
            alike[rest].add(split)
    roles = {child: split for child, (split, rest) in told.items() if split and (not rest or len(alike[rest]) > 1)}
    return roles if "train" in roles.values() or len(set(roles.values())) > 1 else {}


def _in_splits(inside: Sequence[tuple[int, Parts]], roles: dict[str, str], place: str) -> tuple[list[Placed], str]:
    """The pictures in given splits, and what is said of them. Two splits are train and test."""
    if "train" not in roles.values():
        raise UserError(f"{place} has {some(sorted(roles))} but no train/; add train/<class>/<image> to learn from")
    served = served_as(roles)
    seconds: dict[str, set[str]] = defaultdict(set)
    for _, parts in inside:
        if len(parts) > 2:
            seconds[parts[0]].add(parts[1])
    doubled = {  # train/train/<class>
        split: only
        for split, (only, *more) in ((split, sorted(seconds[split])) for split in served)
        if not more and (split_of(only)[0] == roles[split] or only.casefold() in FILLING)
    }
    placed = []
    for row, parts in inside:
        if parts[0] in served:
            rest = parts[2:] if parts[1] == doubled.get(parts[0]) else parts[1:]
            if len(rest) > 1:
                placed.append((row, rest[0], served[parts[0]]))
    counts = Counter(inside_of[0] for _, inside_of in inside if len(inside_of) > 2)
    said = []
    for child in sorted(served, key=lambda name: (ORDER[served[name]], name)):
        as_another = "" if served[child] in ("all", child.casefold()) else f" (used as {served[child]})"
        said.append(f"{shown(child)}/ {counts[child]:,}{as_another}")
    if set(served.values()) == {"all"}:
        return placed, f"class folders in {', '.join(said)}, no other splits"
    if "val" not in served.values():
        said.append("val is taken from train")
    return placed, f"splits {', '.join(said)}"


def served_as(roles: dict[str, str]) -> dict[str, str]:
    """Which split each folder serves as: train alone is everything, and of two splits the second is for testing."""
    if set(roles.values()) == {"train"}:
        return dict.fromkeys(roles, "all")
    if "test" not in roles.values():
        return {child: "test" if split == "val" else split for child, split in roles.items()}
    return dict(roles)


def _splits_inside(inside: Sequence[tuple[int, Parts]], children: set[str]) -> list[Placed]:
    """Row, class and part where each class folder holds folders of splits alone; else nothing."""
    seconds = {parts[1].casefold() for _, parts in inside if len(parts) > 2}
    if not seconds or not all(name in SPLITS for name in seconds) or any(len(parts) == 2 for _, parts in inside):
        return []
    parts_of = served_as({name: SPLITS[name] for name in seconds})
    if not {"train", "test"} <= set(parts_of.values()) or len(children) < 2:
        return []
    return [(row, parts[0], parts_of[parts[1].casefold()]) for row, parts in inside if len(parts) > 2]


def _nested(inside: Sequence[tuple[int, Parts]], place: str) -> list[Finding]:
    """A finding where classes have sub-folders, which might have been meant as the classes."""
    below: dict[str, set[str]] = defaultdict(set)
    for _, parts in inside:
        if len(parts) > 2:
            below[parts[0]].add(parts[1])
    several = sorted(name for name, folders in below.items() if len(folders) > 1)
    if not several:
        return []
    text = (
        f"{len(several)} of the classes, {some(several, 5)}, have sub-folders such as "
        f"{some(sorted(below[several[0]]), 3)}, which are not told apart; to do so: compare {place}/{shown(several[0])}"
    )
    return [Finding("nested classes", len(several), text)]


def _no_classes(place: str, names: Sequence[str], others: Sequence[str], root: str) -> NoReturn:
    """UserError for a folder that has pictures but no class folders, or neither; with a list to name, or to write."""
    if names and (there := other_lists(others, root)):
        raise UserError(f"{place} has no class folders; {there}")
    if not names:
        raise UserError(f"{place}: there are no class folders, and no image in it. Expected {LAYOUT}")
    first = shown(sorted(names)[0])
    raise UserError(
        f"{place}: its {len(names)} images lie in no class folders. Expected {LAYOUT}. If the labels are in the names "
        f"or elsewhere, write a list with a line for each picture, such as\n  path,label\n  {first},"
        f"{first.split('_')[0].split('.')[0]}\nsave it in that folder as labels.csv, and name the list: compare "
        f"{place}/labels.csv"
    )


def other_lists(others: Sequence[str], root: str) -> str:
    """Which of a folder's other files might be a list of its pictures, and how to use it; "" where none might."""
    if {"train800.txt", "test.txt"} <= set(others):
        return f"it has the lists of the study's format: name it vtab:{root}"
    lists = [name for name in others if name.lower().endswith((".csv", ".tsv"))]
    return f"if {some(lists, 3)} has the labels: compare {root}/{shown(lists[0])}" if lists else ""


def arranged(
    text: str, placed: list[Placed], findings: list[Finding], left_out: list[tuple[str, str]], place: str
) -> Layout:
    """A layout from row, class and part of each picture. Classes are sorted by name; pictures lie part by part and
    class by class. UserError where classes differ by case or blanks alone, or one of test or val is not in train."""
    spelt: dict[str, set[str]] = defaultdict(set)
    for raw in {raw for _, raw, _ in placed}:
        spelt[class_name(raw)].add(raw)
    classes = tuple(sorted(spelt))
    _demand_distinct(classes)
    joined = [name for name, raw in spelt.items() if len(raw) > 1]
    if joined:
        said = f"{len(joined)} class names are spelt in two ways, which are joined: {some(joined, 5)}"
        findings.append(Finding("classes spelt in two ways", len(joined), said, serious=False))
    number = {name: label for label, name in enumerate(classes)}
    rows = sorted((ORDER[part], number[class_name(raw)], row, part) for row, raw, part in placed)
    labels, parts = np.array([r[1] for r in rows]), np.array([r[3] for r in rows])
    if "train" in parts:
        unknown = sorted(set(labels[parts != "train"].tolist()) - set(labels[parts == "train"].tolist()))
        if unknown:
            names = some(classes[i] for i in unknown)
            raise UserError(f"the classes {names} are not in {place}/train; they are in test or val alone")
    if classes and all(name.isdigit() for name in classes):
        text_of = f"classes that look like numbers are names, in the order of text: {some(classes, 6)}"
        findings.append(Finding("classes that look like numbers", len(classes), text_of, serious=False))
    return Layout(text, classes, np.array([r[2] for r in rows]), labels, parts, findings, left_out)


def _demand_distinct(classes: Sequence[str]) -> None:
    """UserError where two classes differ by case or blanks only; single letters may (a and A of a font)."""
    seen: dict[str, str] = {}
    for name in classes:
        key = " ".join(name.casefold().split())
        if key in seen and len(name) > 1:
            raise UserError(
                f"the classes {seen[key]!a} and {name!a} differ by case or blanks only; give one class one name"
            )
        seen[key] = name
