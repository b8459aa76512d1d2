"""A task by its name: which kind it is, what loads that kind, and how many images it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from petl_core.data import embedded, folder, imagenet, many, shift, vtab
from petl_core.data.task import Counts, Task
from petl_core.utils import UserError

DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Loader:
    """What loads a task of one kind, given the rest of its name and a size, and what tells its counts without data."""

    load: Callable[[str, int], Task]
    counts: Callable[[str], Counts] = lambda _: Counts()


LOADERS = {  # how a task's name begins
    "folder:": Loader(folder.load_folder),
    "vtab:": Loader(vtab.load_vtab, vtab.counts),
    "vtab1k/": Loader(vtab.load_vtab1k, vtab.counts),
    "shift:": Loader(shift.load_shift),
    "real/": Loader(many.load_real, many.counts),
    "imagenet/": Loader(imagenet.load_imagenet, imagenet.counts),
}


def load_task(name: str, *, size: int | None = None) -> Task:
    """Load a task into memory.

    ``name`` is one of: an embedded task ("digits", or "world" with its shifted test sets; 32 px, ``size`` must be 32 or
    None), perhaps with another number of training images ("orientation@10000"); "folder:<path>", one sub-folder per
    class, or a list of pictures (``data.survey``; with ``?resize=pad`` or other options behind it); "vtab:<folder>/
    <name>", a folder in the study's processed VTAB-1K format; "vtab1k/<name>", a pack of it (``petl_make.vtab``) or the
    same under the folder that the environment variable PETL_DATA names; "shift:<folder>/<train domain>", one folder per
    domain with the same classes in each, of which the others are only evaluated on (``data.shift``);
    "real/cifar100@500" and others below PETL_DATA (``data.many``); "imagenet/100shot-seed0" (``data.imagenet``). Images
    of folders are resized to ``size`` pixels (224 unless told).
    Raises UserError where the name, the folder or an image is wrong.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"a task name is a string such as 'digits' or 'folder:my_images', not {name!r}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise UserError(f"size is {size!r}; it must be a whole number of pixels from 1 to 4096")
    for start, loader in LOADERS.items():
        if name.startswith(start):
            return loader.load(name.removeprefix(start), size or DEFAULT_SIZE)
    embedded.find_embedded(name.partition("@")[0])
    if size not in (None, embedded.SIZE):
        raise UserError(
            f"the embedded task {name!r} exists at {embedded.SIZE} pixels only; size is {size}, leave it out"
        )
    return embedded.load_embedded(name)


def counts(name: str) -> Counts:
    """What is known of a task by its name alone, for plans and estimates; they must not need the data."""
    for start, loader in LOADERS.items():
        if name.startswith(start):
            return loader.counts(name.removeprefix(start))
    return embedded.counts(name)
