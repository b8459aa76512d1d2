"""Distribution shift from folders: "shift:<folder>/<train domain>", such as "shift:pacs/photo".

The layout is that of PACS, Office-Home, VLCS and DomainNet: one folder for each domain, in each the same class
folders. One domain is learned from, and split as an image folder is; every other domain is a further split under its
own name, which is only evaluated on (as the splits of ``data.world`` are). Everything is decoded into memory:
150 kB an image at 224 pixels, so 1.5 GB for PACS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from petl_core.data.decode import decode_images
from petl_core.data.folder import files_by_class, stratified
from petl_core.data.task import SPLITS, Task, make_task
from petl_core.utils import UserError, as_given_or_below, petl_data, short_name

LAYOUT = "expected shift:<folder>/<train domain> and in the folder <domain>/<class>/<image>, the same classes in each"
FEWEST = 3  # images of a class in the train domain: one each to train, choose and test with
TAKEN = {*SPLITS, "train", "val", "name", "group", "classes", "images", "labels", "ids"}  # not names of a domain


def load_shift(place: str, size: int) -> Task:
    """A task from ``<folder>/<train domain>``; a folder that is not there as written is looked for below PETL_DATA.

    The train domain's images are parted into train800, val200 and test by ``folders.stratified``; the other domains
    become splits of their own, in alphabetical order. The task's name holds no absolute path. ``UserError`` where the
    folder or the domain is missing, domains differ in their classes, a class is empty or an image is damaged.
    """
    folder, _, train_domain = place.rstrip("/").rpartition("/")
    if not folder or not train_domain:
        raise UserError(f"'shift:{place}' names no folder and train domain; {LAYOUT}")
    root = as_given_or_below(folder)
    if not root.is_dir():
        raise UserError(
            f"no folder {folder}, neither as written nor below PETL_DATA ({petl_data() or 'not set'}). {LAYOUT}"
        )
    domains = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if train_domain not in domains:
        raise UserError(
            f"{root} has no domain {train_domain!r}; it holds {', '.join(domains[:20]) or 'no folders'}. {LAYOUT}"
        )
    inside = [p for p in (root / train_domain).glob("*/*") if not p.name.startswith(".")]
    if inside and all(p.is_dir() for p in inside):  # class folders that hold folders only are domains
        inner = min(p.parent.name for p in inside)
        raise UserError(f"'shift:{place}' names no train domain; did you mean shift:{place.rstrip('/')}/{inner}?")
    if len(domains) < 2:
        raise UserError(f"{root} has one domain, {train_domain!r}; a shift needs two or more. {LAYOUT}")
    domains = [train_domain, *(name for name in domains if name != train_domain)]
    if clash := TAKEN & set(domains[1:]):
        raise UserError(f"{root}: a domain cannot be called {', '.join(sorted(clash))}; rename the folder")
    found = {name: files_by_class(root / name) for name in domains}
    classes = tuple(found[train_domain])
    _check(root, train_domain, found)

    paths = [(name, path, label) for name in domains for label, c in enumerate(classes) for path in found[name][c]]
    labels = np.array([label for _, _, label in paths])
    where = np.array([name for name, _, _ in paths])
    train, val, test = stratified(labels[where == train_domain])  # the train domain comes first
    others = {name: np.flatnonzero(where == name) for name in domains[1:]}
    images = decode_images([path for _, path, _ in paths], size)
    ids = tuple(path.relative_to(root).as_posix() for _, path, _ in paths)
    name = f"shift:{short_name(root)}/{train_domain}"
    return make_task(name, "other", classes, images, labels, ids, train, val, test, **others)


def _check(root: Path, train_domain: str, found: dict[str, dict[str, list[Path]]]) -> None:
    """Two classes or more, the same in each domain, with enough images to part in the train domain."""
    classes = set(found[train_domain])
    if len(classes) < 2:
        raise UserError(f"{root / train_domain} has one class, {min(classes)!r}; a task needs two or more. {LAYOUT}")
    for name, its in found.items():
        lacks, more = sorted(classes - set(its)), sorted(set(its) - classes)
        if lacks or more:
            differs = [f"lacks {', '.join(lacks[:5])}"] * bool(lacks) + [f"has also {', '.join(more[:5])}"] * bool(more)
            raise UserError(
                f"{root}: the domains differ in their classes: compared with {train_domain!r}, {name!r} "
                f"{' and '.join(differs)}. {LAYOUT}"
            )
    for name, files in found[train_domain].items():
        if len(files) < FEWEST:
            raise UserError(
                f"class {name!r} in {root / train_domain} has {len(files)} image(s) to share out; it needs {FEWEST}"
            )
