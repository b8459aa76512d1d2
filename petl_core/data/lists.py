"""A list of pictures with their labels, a line each: CSV, TSV and what else spreadsheets and scripts write."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from petl_core.data.layout import Layout, Placed, arranged, served_as, shown, some
from petl_core.data.scan import is_picture_name
from petl_core.data.walk import File, split_of, walk
from petl_core.utils import UserError

SEPARATORS = "\t;,| "  # in the order in which they are believed
PATHS = ("path", "filepath", "imagepath", "file", "filename", "imagefile", "imagename", "image", "img", "imageid",
         "picture", "photo", "name", "id")  # fmt: skip
LABELS = ("label", "labels", "class", "classname", "labelname", "target", "category", "y")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "part", "usage")
MOST = 2_000_000_000  # bytes of a list
DEPTH = 4  # folders below the list in which a picture is looked for by its name alone
EXPECTED = "a line for each picture, such as 'path,label' and below it 'images/a.jpg,cat'"


@dataclass(frozen=True)
class Table:
    """The cells of a list: ``header`` (lower case, letters only; empty where there is none), ``rows``, and the number
    of the first row's line."""

    header: list[str]
    written: list[str]
    rows: list[list[str]]
    first: int


def read_table(path: Path) -> Table:
    """The cells of a list. UserError where it is no text, or its lines are no table."""
    try:
        content = path.read_bytes() if path.stat().st_size <= MOST else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not content.strip():
        raise UserError(f"the list {path} is empty. Expected {EXPECTED}")
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not UTF-8; is it a list? Save it as CSV in UTF-8"
        raise UserError(f"cannot read the list {path}: {what}. Expected {EXPECTED}") from error
    best: list[list[str]] = []
    for separator in SEPARATORS:
        rows = _cells(text, separator, path)
        if rows and _worth(rows) > _worth(best):
            best = rows
    if not best:
        raise UserError(f"{path} is no list of pictures: its lines have one column. Expected {EXPECTED}")
    header = _plain(best[0])
    if any(is_picture_name(cell) for cell in best[0]):
        return Table([], [], best, 1)
    if not {*PATHS, *LABELS}.isdisjoint(header):
        return Table(header, best[0], best[1:], 2)
    unknown = len(best) > 1 and any(is_picture_name(cell) for cell in best[1])
    return Table([], best[0] if unknown else [], best[1:] if unknown else best, 2 if unknown else 1)


def _plain(row: Sequence[str]) -> list[str]:
    """The cells of a row as names of columns are compared: lower case, letters and digits only."""
    return ["".join(filter(str.isalnum, cell.casefold())) for cell in row]


def _cells(text: str, separator: str, path: Path) -> list[list[str]]:
    """Rows of cells without blanks around them, [] for an empty line; nothing where most lines are not parted alike by
    the separator."""
    text = text.replace("\0", "\ufffd").strip("\r\n ")
    if separator == " ":  # 'path label', where a path may have blanks
        rows = [list(line.strip().rpartition(" ")[::2]) if line.strip() else [] for line in text.splitlines()]
        return rows if all(is_picture_name(row[0]) for row in rows if row) else []
    try:
        read = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        rows = [[cell.strip() for cell in row] if any(row) else [] for row in read]
    except csv.Error as error:
        raise UserError(f"cannot read the list {path}: {error}") from error
    widths = [len(row) for row in rows if row]
    return rows if widths and widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths) else []


def _worth(rows: Sequence[Sequence[str]]) -> tuple[int, float]:
    """How much a way to part the lines looks like a list: known names of columns, and lines of the same length."""
    if not rows:
        return -1, 0.0
    named = len({*_plain(rows[0])} & {*PATHS, *LABELS, *SPLIT_COLUMNS}) + any(
        is_picture_name(cell) for row in rows[:3] for cell in row
    )
    return named, sum(len(row) in (0, len(rows[0])) for row in rows) / len(rows)


@dataclass(frozen=True)
class Columns:
    """Numbers of the columns; -1 for one that is not there."""

    path: int
    label: int
    split: int
    group: int


def columns_of(table: Table, path: Path, group: str | None) -> Columns:
    """Which column is which. UserError where there is no path, or no label."""
    if not table.rows:
        raise UserError(f"the list {path} has a header and nothing below it. Expected {EXPECTED}")
    width = max(map(len, (table.header, *table.rows)))
    group_column = table.written.index(group) if group in table.written else -1
    file, label, split = (_called(table.header, names) for names in (PATHS, LABELS, SPLIT_COLUMNS))
    few = [row for row in table.rows[:50] if len(row) == width]
    if file < 0 and few:
        looks = [sum(is_picture_name(row[i]) for row in few) for i in range(width)]
        file = int(np.argmax(looks)) if max(looks) else -1
    if split < 0 and not table.header:
        told = [i for i in range(width) if few and all(split_of(row[i])[0] for row in few)]
        split = told[0] if told and width > 2 else -1
    rest = [i for i in range(width) if i not in (file, split, group_column)]
    if label < 0 and len(rest) == 1:
        label = rest[0]
    if file < 0 or label < 0:
        lacking = "path" if file < 0 else "label"
        there = some(table.written) or f"{width} without names"
        raise UserError(f"the list {path} has no column for the {lacking} (its columns: {there}). Expected {EXPECTED}")
    return Columns(file, label, split, group_column)


def _called(header: Sequence[str], names: Sequence[str]) -> int:
    return next((header.index(name) for name in names if name in header), -1)


@dataclass
class Listed:
    """What a list says of its pictures: files by their first line, labels, splits ("" for none) and groups."""

    files: dict[str, int]
    labels: list[str]
    splits: list[str]
    groups: list[str]
    repeated: int = 0


def read_list(path: Path, group: str | None) -> tuple[list[File], list[str], Layout]:
    """The files that a list names, their names in the task, and the layout. ``group``: perhaps a column's name.

    UserError naming all lines that lack a label, name no file, or give a file a second label."""
    table = read_table(path)
    columns = columns_of(table, path, group)
    listed, wrong = _read_rows(table, columns, path)
    roles = {value: split_of(value)[0] for value in listed.splits} if columns.split >= 0 else {}
    if unknown := sorted(value for value, split in roles.items() if not split):
        wrong.append(f"the splits {some(map(repr, unknown), 5)} are none of train, val and test")
    elif roles and "train" not in roles.values():
        wrong.append("no line is of the split train")
    if wrong:
        raise UserError(f"the list {path} cannot be used: {'; '.join(wrong)}. Correct these lines, or take them out")
    served = served_as(roles)
    parts = [served[value] for value in listed.splits] if roles else ["all"] * len(listed.labels)
    placed: list[Placed] = list(zip(range(len(parts)), listed.labels, parts, strict=True))
    text = "a list" + (f" with the splits {some(sorted(set(roles.values())))}" if roles else ", no splits")
    left_out = [("repeated lines", "the same picture with the same label")] * listed.repeated
    layout = arranged(text, placed, [], left_out, str(path))
    layout.groups = tuple(listed.groups[row] for row in layout.rows.tolist()) if columns.group >= 0 else None
    files, names = [], []
    for place in listed.files:
        stat = os.stat(place)
        files.append(File((place,), stat.st_size, stat.st_mtime_ns))
        names.append(os.path.relpath(place, path.parent))
    return files, [shown(name.replace(os.sep, "/")) for name in names], layout


def _read_rows(table: Table, columns: Columns, path: Path) -> tuple[Listed, list[str]]:
    """The rows, and what is wrong with them in words."""
    find = Finder(path.parent.absolute())
    listed = Listed({}, [], [], [])
    short, blank, missing, second = [], [], [], []
    for line, row in enumerate(table.rows, start=table.first):
        if not row:
            continue
        if len(row) <= max(columns.path, columns.label, columns.split, columns.group):
            short.append(f"line {line}")
            continue
        written, label = row[columns.path], row[columns.label]
        place = find(written) if written else None
        if place is None:
            missing.append(f"{written or 'nothing'} (line {line})")
        if not label:
            blank.append(f"{written} (line {line})")
        if place is None or not label:
            continue
        if place in listed.files:
            before = listed.labels[listed.files[place]]
            if before != label:
                second.append(f"{written} (line {line}: {label}, before: {before})")
            listed.repeated += before == label
            continue
        listed.files[place] = len(listed.files)
        listed.labels.append(label)
        listed.splits.append(row[columns.split] if columns.split >= 0 else "")
        listed.groups.append((row[columns.group] if columns.group >= 0 else "") or f"line {line}")
    found = {"too few cells": short, "no label": blank, "no such file": missing, "two labels": second}
    return listed, [f"{what}, {len(lines)}: {some(lines)}" for what, lines in found.items() if lines]


class Finder:
    """Finds a file as a list writes it: relative to the list or the folder around it, or absolute, with either slash;
    else the one file below the list whose path ends so, with or without its suffix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, list[str]] | None = None

    def __call__(self, written: str) -> str | None:
        slashed = written.replace("\\", "/")
        for text in dict.fromkeys((written, slashed)):
            for folder in (self.root, self.root.parent):
                place = os.path.normpath(folder / text)
                if os.path.isfile(place):
                    return place
        if self.by_name is None:
            self.by_name = defaultdict(list)
            for file in walk(self.root, DEPTH).files:
                place = str(self.root.joinpath(*file.parts))
                if is_picture_name(place):
                    self.by_name[file.parts[-1]].append(place)
                    self.by_name[PurePath(file.parts[-1]).stem].append(place)
        ending = slashed.removeprefix("./")
        name = ending.rpartition("/")[2]
        near = self.by_name.get(name, [])
        ends = (f"/{ending}", f"/{ending}{PurePath(near[0]).suffix}") if near else ("",)
        found = [place for place in near if place.endswith(ends)] or near
        return found[0] if len(set(found)) == 1 else None
