"""What VTAB-1K is, and whether a folder of it is that: counts, classes, duplicates between splits, lossless or JPEG.

The test sizes are those of VTAB's own readers; a copy with other images, fewer of them, or JPEG copies of lossless ones
gives other accuracies (on CIFAR-100 ten points were reported), and nothing in training says so.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from petl_core.data.decode import open_image, to_rgb
from petl_core.data.folders import LISTS, class_names, image_folder, read_list
from petl_core.errors import UserError

TRAIN, VAL = 800, 200
JOINED = "train800val200.txt"
BLOCKY = 1.1  # edges at multiples of 8 pixels stronger than elsewhere by so much: the mark of JPEG
LOOKED_AT = 200  # images of the test split for ``blockiness``


@dataclass(frozen=True)
class Standard:
    """A task of VTAB-1K: its group, classes, test images, and whether its originals are lossless."""

    group: str
    classes: int
    test: int
    lossless: bool


STANDARD = {
    "caltech101": Standard("natural", 102, 6084, False),
    "cifar": Standard("natural", 100, 10_000, True),
    "dtd": Standard("natural", 47, 1880, False),
    "oxford_flowers102": Standard("natural", 102, 6149, False),
    "oxford_iiit_pet": Standard("natural", 37, 3669, False),
    "svhn": Standard("natural", 10, 26_032, True),
    "sun397": Standard("natural", 397, 21_750, False),
    "patch_camelyon": Standard("specialised", 2, 32_768, True),
    "eurosat": Standard("specialised", 10, 5400, False),
    "resisc45": Standard("specialised", 45, 6300, False),
    "diabetic_retinopathy": Standard("specialised", 5, 42_670, False),
    "clevr_count": Standard("structured", 8, 15_000, True),
    "clevr_dist": Standard("structured", 6, 15_000, True),
    "dmlab": Standard("structured", 6, 22_735, False),
    "kitti": Standard("structured", 4, 711, True),
    "dsprites_loc": Standard("structured", 16, 73_728, True),
    "dsprites_ori": Standard("structured", 16, 73_728, True),
    "smallnorb_azi": Standard("structured", 18, 12_150, True),
    "smallnorb_ele": Standard("structured", 9, 12_150, True),
}


@dataclass
class Report:
    """What was found in one task's folder. ``faults`` make its accuracies incomparable; ``notes`` are worth knowing."""

    name: str
    counts: dict[str, int]
    classes: int
    present: dict[str, int]  # classes with an image in each split
    duplicates: dict[str, int] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    blockiness: float | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        sizes = " + ".join(f"{split} {count:,}" for split, count in self.counts.items())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.formats.most_common())
        block = "" if self.blockiness is None else f", edges at 8 pixels {self.blockiness:.2f} times the others"
        lines = [f"{self.name}: {sizes}; {self.classes} classes; {kinds}{block}"]
        lines += [f"  FAULT  {text}" for text in self.faults] + [f"  note   {text}" for text in self.notes]
        return "\n".join(lines)


def tasks_in(place: str) -> list[Path]:
    """The task folders of ``place``: those with a list of training images. UserError if there are none."""
    root = image_folder(place)
    found = sorted(path.parent for path in root.glob(f"*/{LISTS['train']}"))
    if (root / LISTS["train"]).is_file():
        found = [root]
    if not found:
        raise UserError(f"no task in {root}: a task is a folder with the lists {', '.join(LISTS.values())}")
    return found


def check(folder: Path) -> Report:
    """Look at every list and image of a task folder. What cannot be read at all is a UserError that names the file."""
    lists = {split: read_list(folder / file) for split, file in LISTS.items()}
    labels = {split: np.array([label for _, label in part]) for split, part in lists.items()}
    names = class_names(folder, np.concatenate(list(labels.values())))
    report = Report(
        folder.name,
        {split: len(part) for split, part in lists.items()},
        len(names),
        {split: len(np.unique(values)) for split, values in labels.items()},
    )
    _compare_with_standard(report)
    _check_joined(report, folder, lists)
    _look_at_images(report, folder, lists)
    return report


def _compare_with_standard(report: Report) -> None:
    for split, count in (("train", TRAIN), ("val", VAL)):
        if report.counts[split] != count:
            report.faults.append(f"{LISTS[split]} has {report.counts[split]:,} images; VTAB-1K has {count}")
    if report.present["train"] < report.classes:
        lacking = report.classes - report.present["train"]
        report.notes.append(f"{lacking} of {report.classes} classes have no image in {LISTS['train']}")
    standard = STANDARD.get(report.name)
    if standard is None:
        report.notes.append("not one of VTAB-1K's names, so classes and test images are compared with nothing")
        return
    for what, got, wanted in (
        ("classes", report.classes, standard.classes),
        ("test images", report.counts["test"], standard.test),
    ):
        if got != wanted:
            report.faults.append(f"{got:,} {what}; VTAB-1K's {report.name} has {wanted:,}")


def _check_joined(report: Report, folder: Path, lists: dict[str, list[tuple[str, int]]]) -> None:
    path = folder / JOINED
    if path.is_file() and sorted(read_list(path)) != sorted(lists["train"] + lists["val"]):
        report.faults.append(f"{JOINED} is not {LISTS['train']} and {LISTS['val']} together")


def _look_at_images(report: Report, folder: Path, lists: dict[str, list[tuple[str, int]]]) -> None:
    seen: dict[str, str] = {}
    shared: Counter[str] = Counter()
    missing = []
    for split, part in lists.items():
        paths = [folder / file for file, _ in part]
        missing += [path for path in paths if not path.is_file()]
        there = [path for path in paths if path.is_file()]
        with ThreadPoolExecutor() as pool:
            for kind, digest in pool.map(_identity, there):
                report.formats[kind] += 1
                first = seen.setdefault(digest, split)
                if first != split:
                    shared[f"{first} and {split}"] += 1
    if missing:
        report.faults.append(f"{len(missing):,} images are missing, the first {missing[0]}")
    report.duplicates = dict(shared)
    for splits, count in shared.items():
        report.faults.append(f"{count:,} images with equal pixels are in {splits}")
    step = max(1, len(lists["test"]) // LOOKED_AT)
    sample = [folder / file for file, _ in lists["test"][::step] if (folder / file).is_file()]
    report.blockiness = blockiness(_native(path) for path in sample)
    lossy = report.formats["JPEG"] > 0 or report.blockiness > BLOCKY
    standard = STANDARD.get(report.name)
    if lossy and standard is not None and standard.lossless:
        report.faults.append("the images went through JPEG, the originals did not: accuracies are not comparable")
    elif report.blockiness > BLOCKY and not report.formats["JPEG"]:
        report.notes.append("lossless files with the marks of JPEG: they were made from JPEG copies")


def _identity(path: Path) -> tuple[str, str]:
    """The format of a file, and a digest of its pixels."""
    with open_image(path) as image:
        kind, pixels = image.format or "unknown", np.asarray(to_rgb(image), dtype=np.uint8)
    return kind, hashlib.blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=12).hexdigest()


def _native(path: Path) -> np.ndarray:
    """The image in its own size, uint8 (height, width, 3)."""
    with open_image(path) as image:
        return np.asarray(to_rgb(image), dtype=np.uint8)


def blockiness(images: Iterable[np.ndarray]) -> float:
    """How much stronger steps between pixels are at multiples of 8 than elsewhere; about 1 unless JPEG left its mark.

    ``images``: uint8 (height, width, 3), in the size that they were compressed in. NaN without images of 16 pixels.
    """
    at_edges, elsewhere = [], []
    for image in images:
        grey = image.astype(np.float64).mean(axis=2)
        for along in (grey, grey.T):
            if along.shape[1] < 16:
                continue
            steps = np.abs(np.diff(along, axis=1)).mean(axis=0)  # between columns i and i + 1
            edge = np.arange(1, along.shape[1]) % 8 == 0
            at_edges.append(steps[edge].mean())
            elsewhere.append(steps[~edge].mean())
    return float(np.mean(at_edges) / max(float(np.mean(elsewhere)), 1e-9)) if at_edges else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the task folders in a folder and print a report of each; 1 if one of them has a fault."""
    parser = argparse.ArgumentParser(prog="python -m petl_core data check-vtab", description=main.__doc__)
    parser.add_argument("folder", help="one task's folder, or the folder of all of them")
    chosen = parser.parse_args(arguments)
    faulty = 0
    for folder in (folders := tasks_in(chosen.folder)):
        report = check(folder)
        faulty += bool(report.faults)
        print(report, flush=True)
    absent = sorted(set(STANDARD) - {folder.name for folder in folders})
    print(f"{len(folders)} tasks, {faulty} with faults" + f"; not there: {', '.join(absent)}" * bool(absent))
    return int(faulty > 0)
