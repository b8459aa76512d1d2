"""Tasks from folders: the user's own images, and VTAB-1K in the format of the study's "processed" release.

Nothing is cached on disk; a task of 3,000 images is decoded in seconds by a few threads.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from petl_core.data.array_pack import is_pack
from petl_core.data.decode import SUFFIXES, decode_images
from petl_core.data.vtab_sizes import VTAB_SIZES
from petl_core.utils import UserError, as_given_or_below, petl_data

if TYPE_CHECKING:
    from petl_core.data.task import Task  # needs torch, which is loaded with a task: preparing data does without it

SPLIT_FOLDERS = ("train", "val", "test")
LISTS = {"train": "train800.txt", "val": "val200.txt", "test": "test.txt"}
SPLIT_SEED = 0
FOLDER_LAYOUT = "expected <folder>/<class>/<image>, or <folder>/{train,val,test}/<class>/<image>"
VTAB_LAYOUT = f"expected images/ and the lists {', '.join(LISTS.values())}, each line 'path label'"

# VTAB-1K's tasks by group, and the names of the same kinds of task under which people keep them
VTAB_GROUPS = {
    "natural": ("caltech101", "cifar", "cifar10", "cifar100", "dtd", "flowers", "pets", "sun397", "svhn"),
    "specialised": ("camelyon", "eurosat", "resisc", "retinopathy", "pneumoniamnist"),
    "structured": (
        "clevr",
        "dmlab",
        "kitti",
        "dsprites",
        "dspr",
        "snorb",
        "smallnorb",
        "coil20_azimuth",
        "sign_digits",
    ),
}


def group_of(name: str) -> str:
    """The group of a VTAB-like task by its name: the longest known name it starts with, else "other"."""
    name = (
        name.lower()
        .removeprefix("oxford_")
        .removeprefix("oxford_iiit_")
        .removeprefix("patch_")
        .removeprefix("diabetic_")
    )
    known = [(len(start), group) for group, starts in VTAB_GROUPS.items() for start in starts if name.startswith(start)]
    return max(known)[1] if known else "other"


def image_folder(place: str) -> Path:
    """The folder that the user named, as it stands or below PETL_DATA; UserError where there is none."""
    if not place.strip():
        raise UserError(f"no folder is named; {FOLDER_LAYOUT}")
    path = as_given_or_below(place)
    if not path.is_dir():
        near = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=3, cutoff=0.5)
        hint = (
            f"; did you mean {' or '.join(close)}?"
            if close
            else f"; {path.parent} holds {', '.join(near[:20]) or 'no folders'}"
        )
        if not path.is_absolute():
            hint += f"; nor is it below PETL_DATA ({petl_data() or 'not set'})"
        raise UserError(f"folder {path} does not exist{hint}")
    return path


def files_by_class(folder: Path) -> dict[str, list[Path]]:
    """Image files of each class sub-folder, sorted. UserError where a class is empty."""
    found = {}
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        files = sorted(
            p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
        if not files:
            raise UserError(
                f"class folder {place} has no images ({', '.join(SUFFIXES)}); add some or remove the folder"
            )
        found[place.name] = files
    if not found:
        raise UserError(f"{folder} has no class folders; {FOLDER_LAYOUT}")
    return found


def split_sizes(total: int) -> tuple[int, int, int]:
    """How many of ``total`` images go to train, val and test.

    With 2,000 or more: 800, 200 and the rest. With fewer, half are for testing, and the other half is parted four to
    one.
    """
    if total >= 2000:
        return 800, 200, total - 1000
    train = max(1, round(total * 0.4))
    val = max(1, round(total * 0.1))
    return train, val, total - train - val


def in_proportion(labels: np.ndarray, seed: int = SPLIT_SEED) -> np.ndarray:
    """All sample indices in an order of which every beginning has its share of every class to within one.

    Each class's samples are shuffled and spread evenly over [0, 1); the order is that of their places."""
    generator = np.random.Generator(np.random.PCG64(seed))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(generator.random(len(members)), kind="stable")]
        place[order] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")


def stratified(labels: np.ndarray, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test with each class shared out in proportion; the same for the same labels."""
    train, val, _ = split_sizes(len(labels))
    parts = np.split(in_proportion(labels, seed), [train, train + val])
    return tuple(np.sort(part) for part in parts)  # type: ignore[return-value]


def load_folder(place: str, size: int) -> Task:
    """A task from one folder per class.

    Where train/ and test/ lie in the folder (val/ too, or a fifth of train/ becomes val), they are the splits.
    Otherwise the images are split by ``stratified``. Raises UserError where a class has fewer than three images or is
    alone.
    """
    from petl_core.data.task import make_task

    root = image_folder(place)
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = {name: files_by_class(root / name) for name in SPLIT_FOLDERS if (root / name).is_dir()}
        classes = tuple(parts["train"])
        for name, found in parts.items():
            if unknown := sorted(set(found) - set(classes)):
                raise UserError(f"{root / name} has the classes {', '.join(unknown)}, which {root / 'train'} lacks")
    else:
        parts = {"all": files_by_class(root)}
        classes = tuple(parts["all"])
    if len(classes) < 2:
        raise UserError(
            f"{root} has one class, {classes[0]!r}; a task needs two or more class folders. {FOLDER_LAYOUT}"
        )

    paths = [
        (part, path, classes.index(name))
        for part, found in parts.items()
        for name, files in found.items()
        for path in files
    ]
    labels = np.array([label for _, _, label in paths])
    where = np.array([part for part, _, _ in paths])
    counts = np.bincount(labels[where != "test"], minlength=len(classes))
    fewest = 3 if "all" in parts else 1 if "val" in parts else 2
    if counts.min() < fewest:
        name = classes[int(counts.argmin())]
        raise UserError(
            f"class {name!r} in {root} has {counts.min()} image(s) to share out; it needs at least {fewest}"
        )
    if "all" in parts:
        train, val, test = stratified(labels)
    else:
        train, val, test = (np.flatnonzero(where == name) for name in SPLIT_FOLDERS)
        if "val" not in parts:
            first, second, third = stratified(labels[train])
            order = np.concatenate([first, third, second])
            fifth = max(1, len(train) // 5)
            train, val = np.sort(train[order[:-fifth]]), np.sort(train[order[-fifth:]])
    images = decode_images([path for _, path, _ in paths], size)
    ids = tuple(path.relative_to(root).as_posix() for _, path, _ in paths)
    return make_task(f"folder:{root.name}", "other", classes, images, labels, ids, train, val, test)


def read_list(path: Path) -> list[tuple[str, int]]:
    """The lines 'path label' of a list; UserError with the line number where one is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {VTAB_LAYOUT}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file, _, label = line.strip().rpartition(" ")
        if not file or not label.lstrip("-").isdigit():
            raise UserError(f"{path}, line {number}: {line!r} is not 'path label'")
        entries.append((file, int(label)))
    if not entries:
        raise UserError(f"{path} is empty; {VTAB_LAYOUT}")
    return entries


def read_lists(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The three lists of a task; UserError where a file is in two of them, or twice in one."""
    lists = {split: read_list(folder / file) for split, file in LISTS.items()}
    seen: dict[str, str] = {}
    for split, part in lists.items():
        for file, _ in part:
            if file in seen:
                where = f"{LISTS[seen[file]]} and {LISTS[split]}" if seen[file] != split else f"{LISTS[split]} twice"
                raise UserError(f"{folder}: {file} is in {where}; train, val and test must not share images")
            seen[file] = split
    return lists


def class_names(folder: Path, labels: np.ndarray) -> tuple[str, ...]:
    """The lines of labels.txt, or "class 0", "class 1", ... where there is none. Every label must be one of them, and
    each must have a training image."""
    path = folder / "labels.txt"
    named = path.is_file()
    names = tuple(path.read_text(encoding="utf-8").splitlines()) if named else ()
    names = tuple(name.strip() for name in names if name.strip()) or tuple(
        f"class {i}" for i in range(int(labels.max()) + 1)
    )
    wrong = sorted({int(label) for label in labels if not 0 <= label < len(names)})
    if wrong:
        raise UserError(
            f"{folder} has the labels {wrong[:5]}, but {'labels.txt names' if named else 'there are'} {len(names)} "
            f"classes; labels must lie in 0 to {len(names) - 1}"
        )
    return names


def demand_classes(folder: Path, names: tuple[str, ...], labels: np.ndarray, trained: int) -> None:
    """UserError unless there are two classes or more, each with an image among the first ``trained``, of train and val.

    VTAB-1K's own tasks are as they are: 1,000 images of SUN397 cannot show all of its 397 classes."""
    missing = sorted(set(range(len(names))) - set(labels[:trained].tolist()))
    if missing and folder.name not in VTAB_SIZES:
        raise UserError(
            f"{folder}: class {names[missing[0]]!r} (label {missing[0]}) has no training image in {LISTS['train']} "
            f"or {LISTS['val']}; add some or take it out of labels.txt"
        )
    if len(names) < 2:
        raise UserError(f"{folder} has one class, {names[0]!r}; a task needs two or more")


def load_vtab(place: str, size: int) -> Task:
    """A task in the study's format: images/ and the lists train800.txt, val200.txt, test.txt, each line 'path
    label'."""
    from petl_core.data.task import make_task

    folder = image_folder(place)
    lists = read_lists(folder)
    entries = [entry for part in lists.values() for entry in part]
    labels = np.array([label for _, label in entries])
    names = class_names(folder, labels)
    ends = np.cumsum([len(part) for part in lists.values()])
    train, val, test = np.split(np.arange(len(entries)), ends[:2])
    demand_classes(folder, names, labels, int(ends[1]))
    images = decode_images([folder / file for file, _ in entries], size)
    ids = tuple(file for file, _ in entries)
    return make_task(f"vtab:{folder.name}", group_of(folder.name), names, images, labels, ids, train, val, test)


def load_vtab1k(name: str, size: int) -> Task:
    """``name`` under the folder that PETL_DATA names, or under its sub-folder vtab1k/ or vtab_processed/: a pack where
    there is one (see ``vtab_packs``), else a folder in the study's format."""
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
    packs = [place for place in places if is_pack(place)]
    if packs:
        from petl_core.data.vtab_packs import load_pack

        task = load_pack(packs[0], size)
    else:
        task = load_vtab(str(next((place for place in places if place.is_dir()), places[0])), size)
    return replace(task, name=f"vtab1k/{name}")
