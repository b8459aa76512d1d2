"""Distribution shift from folders: "shift:<folder>/<train domain>", such as "shift:pacs/photo".

The layout is that of PACS, Office-Home, VLCS and DomainNet: one folder for each domain, in each the same class
folders. One domain is learned from, and split as an image folder is; every other domain is a further split under its
own name, which is only evaluated on (as those of the rendered world are). Everything is decoded into memory: 150 kB an
image at 224 pixels, so 1.5 GB for PACS.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from petl_core.data.classes import ByClass, Listing, fail, files_by_class, listing
from petl_core.data.decode import Preparation, decode_images
from petl_core.data.split import stratified
from petl_core.data.task import GIVEN, SPLITS, Task, make_task
from petl_core.data.walk import hidden
from petl_core.utils import as_given_or_below, petl_data, short_name

LAYOUT = "shift:<folder>/<train domain> and in the folder <domain>/<class>/<image>, the same classes in each domain"
UPRIGHT = Preparation(upright=True)
FEWEST = 3  # images of a class in the train domain: one each to train, choose and test with
TAKEN = {*SPLITS, "train", "val"}  # not names of a domain


def load_shift(place: str, size: int) -> Task:
    """A task from ``<folder>/<train domain>``; a folder that is not there as written is looked for below PETL_DATA.

    The train domain's images are parted into train800, val200 and test by ``split.stratified``; the other domains
    become splits of their own, in alphabetical order. The task's name holds no absolute path. ``UserError`` where the
    folder or the domain is missing, domains differ in their classes, a class is empty or an image is damaged.
    """
    root, train_domain, others = _domains(place)
    found = {domain: files_by_class(root / domain, LAYOUT) for domain in (train_domain, *others)}
    _demand_same_classes(root, train_domain, found)
    files = listing(root, found)  # the train domain comes first
    labels = files.labels[files.parts == train_domain]
    _demand_images(files, labels)
    splits = dict(zip(GIVEN, stratified(labels), strict=True))
    splits |= {domain: np.flatnonzero(files.parts == domain) for domain in others}
    images = decode_images(files.paths, size, UPRIGHT)
    ids = tuple(path.relative_to(root).as_posix() for path in files.paths)
    name = f"shift:{short_name(root)}/{train_domain}"
    task = make_task(name, "other", files.classes, images=images, labels=files.labels, ids=ids, splits=splits)
    return replace(task, preparation=UPRIGHT)


def _domains(place: str) -> tuple[Path, str, list[str]]:
    """The folder, the train domain and the other domains that a name means."""
    folder, _, train_domain = place.rstrip("/").rpartition("/")
    if not folder or not train_domain:
        fail(f"'shift:{place}'", "it names no folder and train domain", LAYOUT)
    root = as_given_or_below(folder)
    if not root.is_dir():
        below = petl_data() or "not set"
        fail(f"'shift:{place}'", f"no folder {folder}, neither as written nor below PETL_DATA ({below})", LAYOUT)
    domains = sorted(p.name for p in root.iterdir() if p.is_dir() and not hidden(p.name))
    if train_domain not in domains:
        fail(root, f"it has no domain {train_domain!r}; it holds {', '.join(domains[:20]) or 'no folders'}", LAYOUT)
    inside = [p for p in (root / train_domain).glob("*/*") if not hidden(p.name)]
    if inside and all(p.is_dir() for p in inside):  # class folders that hold folders only are domains
        inner = min(p.parent.name for p in inside)
        fail(f"'shift:{place}'", f"it names no train domain; did you mean shift:{place.rstrip('/')}/{inner}?", LAYOUT)
    others = [domain for domain in domains if domain != train_domain]
    if not others:
        fail(root, f"it has one domain, {train_domain!r}; a shift needs two or more", LAYOUT)
    if clash := TAKEN & set(others):
        fail(root, f"a domain cannot be called {', '.join(sorted(clash))}", "another name of that folder")
    return root, train_domain, others


def _demand_same_classes(root: Path, train_domain: str, found: dict[str, ByClass]) -> None:
    """UserError where a domain has other classes than the train domain."""
    classes = set(found[train_domain])
    for domain, by_class in found.items():
        differences = []
        if lacks := sorted(classes - set(by_class)):
            differences.append(f"lacks {', '.join(lacks[:5])}")
        if more := sorted(set(by_class) - classes):
            differences.append(f"has also {', '.join(more[:5])}")
        if differences:
            differs = " and ".join(differences)
            fail(root, f"domain {domain!r}, compared with {train_domain!r}, {differs}", LAYOUT)


def _demand_images(files: Listing, labels: np.ndarray) -> None:
    """UserError unless there are two classes or more, with at least ``FEWEST`` of the labels (M,) each."""
    if len(files.classes) < 2:
        fail(files.root, f"it has one class, {files.classes[0]!r}", "two or more class folders")
    counts = np.bincount(labels, minlength=len(files.classes))
    if counts.min() < FEWEST:
        name = files.classes[int(counts.argmin())]
        fail(files.root, f"class {name!r} has {counts.min()} image(s) to share out", f"at least {FEWEST} of each class")
