"""Whether a folder or a pack is VTAB-1K: counts, classes, duplicates between splits, lossless or JPEG.

The test sizes are those of VTAB's own readers; a copy with other images, fewer of them, or JPEG copies of lossless ones
gives other accuracies (on CIFAR-100 ten points were reported), and nothing in training says so.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.decode import open_image, to_rgb
from petl_core.data.folder import LISTS, class_names, image_folder, read_list
from petl_core.utils import UserError
from petl_make.vtab.tasks import TASKS as STANDARD
from petl_make.vtab.tasks import TRAIN, VAL

JOINED = "train800val200.txt"
BLOCKY = 1.1  # edges at multiples of 8 pixels stronger than elsewhere by so much: the mark of JPEG
LOOKED_AT = 200  # images for ``blockiness``
JPEG_LIKE = {"JPEG", "MPO", "lossy WEBP"}  # formats that change pixels


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
        unknown = self.blockiness is None or np.isnan(self.blockiness)
        block = "" if unknown else f", edges at 8 pixels {self.blockiness:.2f} times the others"
        lines = [f"{self.name}: {sizes}; {self.classes} classes; {kinds}{block}"]
        lines += [f"  FAULT  {text}" for text in self.faults] + [f"  note   {text}" for text in self.notes]
        return "\n".join(lines)


def tasks_in(place: str) -> list[Path]:
    """The task folders of ``place``: those with a list of training images, and packs. UserError if there are none."""
    root = image_folder(place)
    marks = (LISTS["train"], array_pack.INDEX)
    found = sorted({path.parent for mark in marks for path in root.glob(f"*/{mark}") if path.parent.name[0] != "."})
    if any((root / mark).is_file() for mark in marks):
        found = [root]
    if not found:
        lists = ", ".join(LISTS.values())
        raise UserError(f"no task in {root}: a task is a folder with the lists {lists}, or with {array_pack.INDEX}")
    return found


def check(folder: Path) -> Report:
    """Look at every list and image of a task folder, or at every byte of a pack.

    What cannot be read at all, or was altered in a pack, is a UserError that names the file."""
    return _check_pack(folder) if array_pack.is_pack(folder) else _check_folder(folder)


def _check_folder(folder: Path) -> Report:
    lists = {split: read_list(folder / file) for split, file in LISTS.items()}
    labels = {split: np.array([label for _, label in part]) for split, part in lists.items()}
    report = _counted(folder.name, len(class_names(folder, np.concatenate(list(labels.values())))), labels, LISTS)
    joined = folder / JOINED
    if joined.is_file() and sorted(read_list(joined)) != sorted(lists["train"] + lists["val"]):
        report.faults.append(f"{JOINED} is not {LISTS['train']} and {LISTS['val']} together")
    paths = {split: [folder / file for file, _ in part] for split, part in lists.items()}
    if missing := [path for part in paths.values() for path in part if not path.is_file()]:
        report.faults.append(f"{len(missing):,} images are missing, the first {missing[0]}")
    there = {split: [path for path in part if path.is_file()] for split, part in paths.items()}
    step = max(1, len(lists["test"]) // LOOKED_AT)
    sample = (_native(path) for path in paths["test"][::step] if path.is_file())
    _look_for_duplicates(report, _identities(there, report.formats))
    report.blockiness = blockiness(sample)
    _judge_lossy(report)
    return report


def _check_pack(folder: Path) -> Report:
    pack = array_pack.verify(folder)
    labels = {split: part.labels for split, part in pack.splits.items()}
    report = _counted(folder.name, len(pack.meta["classes"]), labels, {split: split for split in labels})
    report.formats, report.blockiness = Counter(pack.meta["formats"]), pack.meta["blockiness"]
    if pack.meta["resized_to"]:
        report.notes.append(f"resized: {pack.meta['resizing']}")
    images = ((split, _digest(image)) for split, part in pack.splits.items() for image in part.images)
    _look_for_duplicates(report, images)
    _judge_lossy(report)
    return report


def _counted(name: str, classes: int, labels: dict[str, np.ndarray], where: dict[str, str]) -> Report:
    """A report with the numbers compared with VTAB-1K's; ``where`` is what to call each split."""
    counts = {split: len(values) for split, values in labels.items()}
    report = Report(name, counts, classes, {split: len(np.unique(values)) for split, values in labels.items()})
    for split, count in (("train", TRAIN), ("val", VAL)):
        if report.counts[split] != count:
            report.faults.append(f"{where[split]} has {report.counts[split]:,} images; VTAB-1K has {count}")
    if report.present["train"] < report.classes:
        lacking = report.classes - report.present["train"]
        report.notes.append(f"{lacking} of {report.classes} classes have no image in {where['train']}")
    standard = STANDARD.get(report.name)
    if standard is None:
        report.notes.append("not one of VTAB-1K's names, so classes and test images are compared with nothing")
        return report
    for what, got, wanted in (
        ("classes", report.classes, standard.classes),
        ("test images", report.counts["test"], standard.test),
    ):
        if got != wanted:
            report.faults.append(f"{got:,} {what}; VTAB-1K's {report.name} has {wanted:,}")
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
    known = STANDARD[report.name].twins if report.name in STANDARD else ""
    for splits, count in shared.items():
        text = f"{count:,} images with equal pixels are in {splits}"
        (report.notes if known else report.faults).append(text + f": {known}" * bool(known))


def _judge_lossy(report: Report) -> None:
    """Whether the images went through JPEG, and whether they should have."""
    compressed, blocky = bool(JPEG_LIKE & set(report.formats)), (report.blockiness or 0) > BLOCKY
    standard = STANDARD.get(report.name)
    if (compressed or blocky) and standard is not None and standard.lossless:
        report.faults.append("the images went through JPEG, the originals did not: accuracies are not comparable")
    elif blocky and not compressed:
        report.notes.append("lossless files with the marks of JPEG: they were made from JPEG copies")


def _identities(paths: dict[str, list[Path]], formats: Counter[str]) -> Iterator[tuple[str, str]]:
    """Split and digest of each file; its format is counted."""
    with ThreadPoolExecutor() as pool:
        for split, part in paths.items():
            for kind, digest in pool.map(_identity, part):
                formats[kind] += 1
                yield split, digest


def _identity(path: Path) -> tuple[str, str]:
    """The format of a file, and a digest of its pixels."""
    with open_image(path) as image:
        return kind_of(image, path), _digest(np.asarray(to_rgb(image), dtype=np.uint8))


def _digest(image: np.ndarray) -> str:
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=12).hexdigest()


def kind_of(image: Image.Image, path: Path, content: bytes | None = None) -> str:
    """Pillow's name of a file's format, with lossy WebP told from lossless; ``content`` is the file's, if at hand."""
    if image.format == "WEBP" and b"VP8L" not in (content or path.read_bytes())[:4096]:
        return "lossy WEBP"
    return image.format or "unknown"


def _native(path: Path) -> np.ndarray:
    """The image in its own size, uint8 (height, width, 3)."""
    with open_image(path) as image:
        return np.asarray(to_rgb(image), dtype=np.uint8)


def blockiness(images: Iterable[np.ndarray]) -> float:
    """How much stronger steps between pixels are at multiples of 8 than elsewhere; about 1 unless JPEG left its mark.

    ``images``: uint8 (height, width, 3), in the size that they were compressed in. Those of two values (dSprites) are
    left out: JPEG leaves no image so, and their few steps lie where they lie. NaN without images of 16 pixels.
    """
    at_edges, elsewhere = [], []
    for image in images:
        if np.isin(image, (image.min(), image.max())).all():
            continue
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
    """Check the task folders and packs in a folder and print a report of each; 1 if one of them has a fault."""
    parser = argparse.ArgumentParser(prog="python -m petl_make check-vtab", description=main.__doc__)
    parser.add_argument("folder", help="one task's folder or pack, or the folder of all of them")
    chosen = parser.parse_args(arguments)
    faulty = 0
    for folder in (folders := tasks_in(chosen.folder)):
        report = check(folder)
        faulty += bool(report.faults)
        print(report, flush=True)
    absent = sorted(set(STANDARD) - {folder.name for folder in folders})
    print(f"{len(folders)} tasks, {faulty} with faults" + f"; not there: {', '.join(absent)}" * bool(absent))
    return int(faulty > 0)
