"""ImageNet with few images a class, and its shifted test sets: "imagenet/100shot-seed0".

    <PETL_DATA>/imagenet/train/<WordNet id>/*.JPEG      1,000 classes (also below imagenet/ILSVRC/Data/CLS-LOC)
    <PETL_DATA>/imagenet/val/<WordNet id>/*.JPEG        the test images, sorted into class folders
    <PETL_DATA>/imagenetv2-matched-frequency-format-val/<0 to 999>/     split v2 (Recht et al., 2019)
    <PETL_DATA>/imagenet-r/<WordNet id>/                split r, 200 classes (Hendrycks et al., 2021)
    <PETL_DATA>/imagenet-a/<WordNet id>/                split a, 200 classes (Hendrycks et al., 2021)
    <PETL_DATA>/imagenet-sketch/<WordNet id>/           split sketch (Wang et al., 2019)

K images of each class are drawn with the seed to train, and ten more for validation (the study's numbers: K = 100; its
list is not public). With one seed, validation is the same for every K, and fewer shots are a part of more. The other
sets are splits where their folders are there, and only evaluated on; on r and a a model chooses among their 200 classes
(``Task.allowed``). Classes are the WordNet ids in alphabetical order, which is ImageNet's. Images keep their
proportions: the short side is resized and the centre cut out (``decode``; the study squeezes them to a square first).

With K = 100 at 224 pixels the packs take 17 GB, val 7.5 GB, and all shifts together 15 GB.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petl_core.data.cache import Listed, cached_listing, file_entry, packed, packed_task
from petl_core.data.classes import class_folders, fail, files_by_class, image_files
from petl_core.data.decode import CROPPED
from petl_core.data.task import Counts, Task
from petl_core.utils import UserError, petl_data

VALIDATION = 10  # images of each class
CLASSES = 1000
PLACES = ("imagenet", "imagenet/ILSVRC", "imagenet/ILSVRC/Data/CLS-LOC", "imagenet/images")
SHIFTS = {  # split: its folder's names, and how many classes it has
    "v2": (("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency"), 1000),
    "r": (("imagenet-r",), 200),
    "a": (("imagenet-a",), 200),
    "sketch": (("imagenet-sketch", "sketch"), 1000),
}
LAYOUT = (
    "imagenet/train/<WordNet id>/*.JPEG and imagenet/val/<WordNet id>/*.JPEG below PETL_DATA; ImageNet (ILSVRC 2012) "
    "is at image-net.org, after registration"
)


COUNTS = Counts(100_000, 10_000, 50_000, CLASSES, 10_000 + 30_000 + 7500 + 50_889)  # 100 shots; v2, r, a, sketch


@dataclass(frozen=True)
class Split:
    """Images to evaluate on, and the classes among which a model then chooses (None: all)."""

    entries: list[Listed]
    allowed: np.ndarray | None = None


def counts(_: str) -> Counts:
    """The study's numbers, whatever the number of shots."""
    return COUNTS


def load_imagenet(name: str, size: int) -> Task:
    """The task ``imagenet/<name>`` for a name such as "100shot-seed0", at ``size`` pixels.

    UserError for another name, where the folders are missing, val/ is not sorted into classes, a class has too few
    images, a shifted set has classes that train/ lacks, or a file is damaged.
    """
    told = re.fullmatch(r"([1-9]\d*)shot-seed(\d+)", name)
    if not told:
        raise UserError(
            f"'imagenet/{name}' is no task; write imagenet/<images a class>shot-seed<number>, such as "
            "imagenet/100shot-seed0"
        )
    data = petl_data()
    roots = [data / place for place in PLACES if (data / place / "train").is_dir()] if data else []
    if data is None or not roots:
        fail(f"'imagenet/{name}'", f"it is not below PETL_DATA ({data or 'not set'})", LAYOUT)
    root = roots[0]
    classes, train, val = _drawn(root, shots=int(told[1]), seed=int(told[2]))
    number = {wnid: label for label, wnid in enumerate(classes)}
    test = _folder(root / "val", number)
    if (sorted_in := len({entry.label for entry in test})) != len(classes):
        fail(root / "val", f"it has {sorted_in} of the {len(classes)} class folders of train/; sort its images", LAYOUT)
    others = {"test": Split(test)} | _shifted(data, number)
    packs = [packed(f"imagenet-{name}", train + val, size, CROPPED)]
    packs += [packed(f"imagenet-{key}", split.entries, size, CROPPED) for key, split in others.items()]
    splits = {"train800": len(train), "val200": len(val)}
    splits |= {key: len(split.entries) for key, split in others.items()}
    allowed = {key: split.allowed for key, split in others.items() if split.allowed is not None}
    return packed_task(f"imagenet/{name}", "other", classes, parts=packs, splits=splits, allowed=allowed)


def _shifted(data: Path, number: dict[str, int]) -> dict[str, Split]:
    """The shifted sets whose folders are there."""
    found = {}
    for split, (folders, count) in SHIFTS.items():
        places = [place for folder in folders for place in (data / folder, data / "imagenet" / folder)]
        there = [place for place in places if place.is_dir()]
        if not there:
            continue
        by_number = {str(label): label for label in number.values()}  # how v2 names its folders
        entries = _folder(there[0], by_number if split == "v2" else number)
        classes = np.unique([entry.label for entry in entries])
        _expect(len(classes), count, there[0])
        found[split] = Split(entries, classes if count < CLASSES else None)
    return found


def _expect(found: int, count: int, place: Path) -> None:
    if found != count:
        warnings.warn(
            f"{place} has {found} classes, not {count}: accuracies will not compare with others'", stacklevel=3
        )


def _drawn(root: Path, shots: int, seed: int) -> tuple[tuple[str, ...], list[Listed], list[Listed]]:
    """Classes, and the images drawn from train/ for training and validation. What was drawn stays in the cache."""
    key = hashlib.sha256(f"{root.resolve()} {shots} {seed} {VALIDATION}".encode()).hexdigest()[:16]
    rows = cached_listing(f"imagenet-{shots}shot-seed{seed}-{key}", lambda: _draw(root / "train", shots, seed))
    classes = tuple(sorted({row[0] for row in rows}))
    number = {c: i for i, c in enumerate(classes)}
    _expect(len(classes), CLASSES, root / "train")
    parts: dict[str, list[Listed]] = {"train": [], "val": []}
    for wnid, part, file, mark in rows:
        parts[part].append(Listed(f"train/{wnid}/{file}", number[wnid], mark, root / "train" / wnid / file))
    return classes, parts["train"], parts["val"]


def _draw(train: Path, shots: int, seed: int) -> list[list[Any]]:
    """Rows of WordNet id, "train" or "val", file and size."""
    rows: list[list[Any]] = []
    for place in class_folders(train, LAYOUT):
        wnid, files = place.name, image_files(place)
        if len(files) < shots + VALIDATION:
            raise UserError(
                f"class {wnid} in {train} has {len(files)} images; {shots} to train and {VALIDATION} to validate with "
                f"are needed: choose at most {max(1, len(files) - VALIDATION)} shots, or unpack the class again"
            )
        own = int.from_bytes(hashlib.sha256(f"{seed} {wnid}".encode()).digest()[:8], "big")
        order = np.random.Generator(np.random.PCG64(own)).permutation(len(files))
        for rank, i in enumerate(order[: VALIDATION + shots].tolist()):
            part = "val" if rank < VALIDATION else "train"
            rows.append([wnid, part, files[i].relative_to(place).as_posix(), str(files[i].stat().st_size)])
    return rows


def _folder(folder: Path, number: dict[str, int]) -> list[Listed]:
    """All images of a folder of class folders, whose names ``number`` gives the labels of."""
    found = files_by_class(folder, LAYOUT)
    if unknown := sorted(set(found) - set(number)):
        fail(folder, f"the classes {', '.join(unknown[:5])} are not in train/", LAYOUT)
    return [file_entry(folder.parent, path, number[name]) for name, paths in found.items() for path in paths]
