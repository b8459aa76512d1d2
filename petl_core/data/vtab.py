"""VTAB-1K (Zhai et al., 2019, arXiv 1910.04867): sizes of its nineteen tasks, and tasks from packs or folders of it.

A folder is in the format of the study's "processed" release: images/, and the lists train800.txt, val200.txt and
test.txt with lines "path label". A pack (``array_pack``) holds the same decoded; ``petl_make.vtab`` makes packs.
Every task has ``TRAIN`` images to train on and ``VAL`` to choose with.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from petl_core.data import array_pack
from petl_core.data.classes import fail, image_folder
from petl_core.data.decode import decode_images, prefetched, to_square
from petl_core.data.task import GIVEN, Counts, Task, in_a_row, make_task
from petl_core.utils import UserError, petl_data

TRAIN, VAL = 800, 200
LISTS = {"train": "train800.txt", "val": "val200.txt", "test": "test.txt"}
LAYOUT = f"images/ and the lists {', '.join(LISTS.values())}, each line 'path label'"


class VtabSizes(NamedTuple):
    """A task's group, classes and test images, and whether its originals never went through JPEG."""

    group: str
    classes: int
    test: int
    lossless: bool = False


VTAB_SIZES = {
    "caltech101": VtabSizes("natural", 102, 6084),
    "cifar": VtabSizes("natural", 100, 10_000, lossless=True),
    "dtd": VtabSizes("natural", 47, 1880),
    "oxford_flowers102": VtabSizes("natural", 102, 6149),
    "oxford_iiit_pet": VtabSizes("natural", 37, 3669),
    "svhn": VtabSizes("natural", 10, 26_032, lossless=True),
    "sun397": VtabSizes("natural", 397, 21_750),
    "patch_camelyon": VtabSizes("specialised", 2, 32_768, lossless=True),
    "eurosat": VtabSizes("specialised", 10, 5400),
    "resisc45": VtabSizes("specialised", 45, 6300),
    "diabetic_retinopathy": VtabSizes("specialised", 5, 42_670),
    "clevr_count": VtabSizes("structured", 8, 15_000, lossless=True),
    "clevr_dist": VtabSizes("structured", 6, 15_000, lossless=True),
    "dmlab": VtabSizes("structured", 6, 22_735),
    "kitti": VtabSizes("structured", 4, 711, lossless=True),
    "dsprites_loc": VtabSizes("structured", 16, 73_728, lossless=True),
    "dsprites_ori": VtabSizes("structured", 16, 73_728, lossless=True),
    "smallnorb_azi": VtabSizes("structured", 18, 12_150, lossless=True),
    "smallnorb_ele": VtabSizes("structured", 9, 12_150, lossless=True),
}
KINDRED = {  # how the names begin under which people keep these and similar tasks
    "natural": ("caltech101", "cifar", "dtd", "flowers", "pets", "sun397", "svhn", "gtsrb", "birds"),
    "specialised": ("camelyon", "eurosat", "resisc", "retinopathy", "pneumoniamnist", "rsscn7"),
    "structured": (
        *("clevr", "dmlab", "kitti", "dspr", "snorb", "smallnorb"),
        *("coil20_azimuth", "eth80_elevation", "sign_digits"),
    ),
}


def group_of(name: str) -> str:
    """The group of a VTAB-like task by its name or how that begins, else "other"."""
    if name in VTAB_SIZES:
        return VTAB_SIZES[name].group
    start = re.sub("^(oxford_|patch_|diabetic_)", "", name.lower())
    return next((group for group, starts in KINDRED.items() if start.startswith(starts)), "other")


def counts(place: str) -> Counts:
    """The numbers of VTAB-1K's task of that name; of another, the usual ones."""
    sizes = VTAB_SIZES.get(PurePath(place).name)
    return Counts(test=sizes.test, classes=sizes.classes) if sizes else Counts()


def read_list(path: Path) -> list[tuple[str, int]]:
    """The lines 'path label' of a list; UserError with the line number where one is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        fail(path, "it does not exist", LAYOUT)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file, _, label = line.strip().rpartition(" ")
        if not file or not label.lstrip("-").isdigit():
            fail(f"{path}, line {number}", repr(line), "'path label'")
        entries.append((file, int(label)))
    if not entries:
        fail(path, "it is empty", LAYOUT)
    return entries


def read_lists(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The three lists of a task; UserError where a file is in two of them, or twice in one."""
    lists = {split: read_list(folder / file) for split, file in LISTS.items()}
    seen: dict[str, str] = {}
    for split, part in lists.items():
        for file, _ in part:
            if seen.get(file) == split:
                fail(folder, f"{file} is in {LISTS[split]} twice", "each image once")
            if file in seen:
                fail(folder, f"{file} is in {LISTS[seen[file]]} and {LISTS[split]}", "parts that share no image")
            seen[file] = split
    return lists


def class_names(folder: Path, labels: np.ndarray) -> tuple[str, ...]:
    """The lines of labels.txt, or "class 0", "class 1", ... where there is none. UserError where a label (M,) is not
    one of them."""
    path = folder / "labels.txt"
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    names = tuple(line.strip() for line in lines if line.strip())
    names = names or tuple(f"class {label}" for label in range(int(labels.max()) + 1))
    if wrong := sorted({int(label) for label in labels if not 0 <= label < len(names)}):
        source = "labels.txt names" if lines else "there are"
        fail(folder, f"labels {wrong[:5]}, but {source} {len(names)} classes", f"labels from 0 to {len(names) - 1}")
    return names


def demand_classes(folder: Path, names: tuple[str, ...], labels: np.ndarray) -> None:
    """UserError unless there are two classes or more, each with one of the ``labels`` of train and val.

    VTAB-1K's own tasks are as they are: 1,000 images of SUN397 cannot show all of its 397 classes."""
    missing = sorted(set(range(len(names))) - set(labels.tolist()))
    if missing and folder.name not in VTAB_SIZES:
        where = f"{LISTS['train']} or {LISTS['val']}"
        fail(
            folder,
            f"class {names[missing[0]]!r} (label {missing[0]}) has no training image in {where}",
            "some of each class; add them, or take the class out of labels.txt",
        )
    if len(names) < 2:
        fail(folder, f"it has one class, {names[0]!r}", "two or more")


def load_vtab(place: str, size: int) -> Task:
    """A task in the study's format: images/ and the lists train800.txt, val200.txt, test.txt, each line 'path
    label'. UserError where a list, a label or an image is wrong."""
    folder = image_folder(place)
    lists = read_lists(folder)
    files = [file for part in lists.values() for file, _ in part]
    labels = np.array([label for part in lists.values() for _, label in part])
    names = class_names(folder, labels)
    splits = in_a_row(dict(zip(GIVEN, map(len, lists.values()), strict=True)))
    demand_classes(folder, names, labels[: splits["test"][0]])
    images = decode_images([_as_there(folder, file) for file in files], size)
    name, group = f"vtab:{folder.name}", group_of(folder.name)
    return make_task(name, group, names, images=images, labels=labels, ids=tuple(files), splits=splits)


def _as_there(folder: Path, file: str) -> Path:
    """The file of a list, which may have been written with backslashes on another system."""
    path = folder / file
    return path if path.exists() else folder / file.replace("\\", "/")


def load_vtab1k(name: str, size: int) -> Task:
    """``name`` under the folder that PETL_DATA names, or under its sub-folder vtab1k/ or vtab_processed/: a pack where
    there is one (``load_pack``), else a folder in the study's format."""
    root = petl_data()
    if root is None:
        raise UserError(
            f"vtab1k/{name} is looked for in the folder named by the environment variable PETL_DATA, which is not set. "
            "Make lossless packs of VTAB-1K (python -m petl_make vtab --help), or get the processed "
            "VTAB-1K (github.com/OSU-MLB/ViT_PEFT_Vision, github.com/JieShibo/PETL-ViT and "
            "huggingface.co/datasets/XiN0919/VTAB-1k have or link to it; one folder a task with "
            f"{', '.join(LISTS.values())}) and unpack it; then set PETL_DATA to the folder that holds {name}/"
        )
    places = [root / inside / name for inside in ("", "vtab1k", "vtab_processed")]
    packs = [place for place in places if array_pack.is_pack(place)]
    folders = [place for place in places if place.is_dir()]
    task = load_pack(packs[0], size) if packs else load_vtab(str((folders or places)[0]), size)
    return replace(task, name=f"vtab1k/{name}")


def load_pack(folder: Path, size: int) -> Task:
    """The task in a pack, its images at ``size`` pixels.

    Every byte is compared with the checksums first. Sample ids are the pack's: the files' paths if it was made from a
    folder, which then gives the same digest as the folder does; split and position in the source, such as
    "train/002754", if it was made through tensorflow-datasets or from the Hub. UserError where the pack is damaged, is
    none of VTAB-1K's form, or holds images that were resized to another size: these are not resized again.
    """
    pack = array_pack.verify(folder)
    if set(pack.splits) != set(LISTS) or "classes" not in pack.meta:
        raise UserError(f"{folder} is a pack of something else: its splits are {', '.join(pack.splits)}")
    resized = pack.meta.get("resized_to")
    if resized not in (None, size):
        raise UserError(
            f"the images of {folder} were resized to {resized} pixels when it was made, and {size} are asked for; ask "
            f"for {resized}, or make it anew: python -m petl_make vtab --size {size}"
        )
    parts = [pack.splits[split] for split in LISTS]
    labels, names = np.concatenate([part.labels for part in parts]), tuple(pack.meta["classes"])
    splits = in_a_row({split: len(part.labels) for split, part in zip(GIVEN, parts, strict=True)})
    demand_classes(folder, names, labels[: splits["test"][0]])

    def resize(image: np.ndarray) -> np.ndarray:
        return to_square(Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3))), size)

    images = np.empty((len(labels), 3, size, size), dtype=np.uint8)
    stored = (image for part in parts for image in part.images)
    for row, (_, image) in zip(images, prefetched(stored, resize), strict=True):
        row[:] = image
    ids = tuple(str(name) for part in parts for name in part.ids)
    name, group = f"vtab:{folder.name}", group_of(folder.name)
    return make_task(name, group, names, images=images, labels=labels, ids=ids, splits=splits)
