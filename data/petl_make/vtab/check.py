"""Whether a folder or a pack is VTAB-1K: counts, classes, duplicates between splits, lossless or JPEG."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from petl_core.data import array_pack
from petl_core.data.classes import image_folder
from petl_core.data.decode import open_image, prefetched, to_rgb
from petl_core.data.vtab import LISTS, VTAB_SIZES, class_names, read_list
from petl_core.utils import UserError
from petl_make import command_line, say
from petl_make.vtab.look import LOOKED_AT, STEPS, Look, blockiness, kind_of
from petl_make.vtab.tasks import TASKS

JOINED = "train800val200.txt"


@dataclass
class Report:
    """What was found in one task. ``faults`` make its accuracies incomparable; ``notes`` are worth knowing."""

    look: Look
    duplicates: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        look = self.look
        sizes = " + ".join(f"{split} {count:,}" for split, count in look.counts.items())
        line = f"{look.name}: {sizes}; {look.classes} classes; {look.formats_text()}"
        if not np.isnan(look.blockiness):
            line += f", edges at 8 pixels {look.blockiness:.2f} times those beside them"
        faults = [f"  FAULT  {text}" for text in self.faults]
        return "\n".join([line, *faults, *(f"  note   {text}" for text in self.notes)])


def tasks_in(place: str) -> list[Path]:
    """The task folders of ``place``: those with a list of training images, and packs. UserError if there are none."""
    root = image_folder(place)
    marks = (LISTS["train"], array_pack.INDEX)
    if any((root / mark).is_file() for mark in marks):
        return [root]
    found = sorted({path.parent for mark in marks for path in root.glob(f"*/{mark}") if path.parent.name[0] != "."})
    if not found:
        lists = ", ".join(LISTS.values())
        raise UserError(f"no task in {root}: a task is a folder with the lists {lists}, or with {array_pack.INDEX}")
    return found


def check(folder: Path) -> Report:
    """Look at every list and image of a task folder, or at every byte of a pack.

    What cannot be read at all, or was altered in a pack, is a UserError that names the file."""
    report = _check_pack(folder) if array_pack.is_pack(folder) else _check_folder(folder)
    look = report.look
    if look.lossy_copy:
        report.faults.append("the images went through JPEG, the originals did not: accuracies are not comparable")
    elif look.jpeg_marks and not look.jpeg_files:
        report.notes.append("lossless files with the marks of JPEG: they were made from JPEG copies")
    return report


def _check_folder(folder: Path) -> Report:
    lists = {split: read_list(folder / file) for split, file in LISTS.items()}
    labels = {split: np.array([label for _, label in part]) for split, part in lists.items()}
    names = class_names(folder, np.concatenate(list(labels.values())))
    report = _counted(folder.name, len(names), labels, LISTS)
    joined = folder / JOINED
    if joined.is_file() and sorted(read_list(joined)) != sorted(lists["train"] + lists["val"]):
        report.faults.append(f"{JOINED} is not {LISTS['train']} and {LISTS['val']} together")
    paths = [(split, folder / file) for split, part in lists.items() for file, _ in part]
    if missing := [path for _, path in paths if not path.is_file()]:
        report.faults.append(f"{len(missing):,} images are missing, the first {missing[0]}")
    there = [(split, path) for split, path in paths if path.is_file()]
    _look_for_duplicates(report, _identities(there, report.look))
    test = [path for split, path in there if split == "test"]
    report.look.blockiness = blockiness(_pixels(path) for path in test[:: max(1, len(test) // LOOKED_AT)])
    return report


def _check_pack(folder: Path) -> Report:
    pack = array_pack.verify(folder)
    labels = {split: part.labels for split, part in pack.splits.items()}
    report = _counted(folder.name, len(pack.meta["classes"]), labels, {split: split for split in labels})
    report.look.formats = Counter(pack.meta["formats"])
    if pack.meta.get(STEPS) is not None:
        report.look.blockiness = pack.meta[STEPS]
    if pack.meta["resized_to"]:
        report.notes.append(f"resized: {pack.meta['resizing']}")
    images = ((split, _digest(image)) for split, part in pack.splits.items() for image in part.images)
    _look_for_duplicates(report, images)
    return report


def _counted(name: str, classes: int, labels: dict[str, np.ndarray], called: dict[str, str]) -> Report:
    """A report with the numbers compared with VTAB-1K's; ``called``: what to call each split."""
    look = Look(name, classes)
    for split, values in labels.items():
        look.count(split, values.tolist())
    report = Report(look, faults=look.wrong_counts(called))
    if lacking := classes - look.present["train"]:
        report.notes.append(f"{lacking} of {classes} classes have no image in {called['train']}")
    if name not in VTAB_SIZES:
        report.notes.append("not one of VTAB-1K's names, so classes and test images are compared with nothing")
    elif classes != VTAB_SIZES[name].classes:
        report.faults.append(f"{classes} classes; VTAB-1K's {name} has {VTAB_SIZES[name].classes}")
    return report


def _look_for_duplicates(report: Report, images: Iterable[tuple[str, str]]) -> None:
    """``images``: the split and the digest of each. Equal pixels in two splits are a fault, unless the original has
    them too."""
    seen: dict[str, str] = {}
    shared: Counter[str] = Counter()
    for split, digest in images:
        first = seen.setdefault(digest, split)
        if first != split:
            shared[f"{first} and {split}"] += 1
    report.duplicates = dict(shared)
    task = TASKS.get(report.look.name)
    for splits, count in shared.items():
        text = f"{count:,} images with equal pixels are in {splits}"
        if task is not None and task.twins:
            report.notes.append(f"{text}: {task.twins}")
        else:
            report.faults.append(text)


def _identities(files: Iterable[tuple[str, Path]], look: Look) -> Iterator[tuple[str, str]]:
    """Split and digest of each file; its format is counted."""
    for (split, _), (kind, digest) in prefetched(files, lambda file: _identity(file[1])):
        look.formats[kind] += 1
        yield split, digest


def _identity(path: Path) -> tuple[str, str]:
    """The format of a file, and a digest of its pixels."""
    with open_image(path) as image:
        return kind_of(image, path), _digest(np.asarray(to_rgb(image), dtype=np.uint8))


def _pixels(path: Path) -> np.ndarray:
    """The image in its own size, uint8 (height, width, 3)."""
    with open_image(path) as image:
        return np.asarray(to_rgb(image), dtype=np.uint8)


def _digest(image: np.ndarray) -> str:
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=12).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the task folders and packs in a folder and print a report of each; 1 if one of them has a fault."""
    parser = command_line("check-vtab", main.__doc__, "vtab1k", "vtab1k/svhn")
    parser.add_argument("folder", help="one task's folder or pack, or the folder of all of them")
    folders, faulty = tasks_in(parser.parse_args(arguments).folder), 0
    for folder in folders:
        report = check(folder)
        faulty += bool(report.faults)
        say(str(report))
    absent = ", ".join(sorted(set(VTAB_SIZES) - {folder.name for folder in folders}))
    print(f"{len(folders)} tasks, {faulty} with faults; not there: {absent or 'none'}")
    return int(faulty > 0)
