"""A task by its name: which kind it is, and what loads that kind."""

from __future__ import annotations

from collections.abc import Callable

from petl_core.data.embedded import SIZE, find_embedded, load_amount, load_embedded
from petl_core.data.folder import load_folder, load_vtab, load_vtab1k
from petl_core.data.imagenet import load_imagenet
from petl_core.data.many import load_real
from petl_core.data.shift import load_shift
from petl_core.data.task import Task
from petl_core.utils import UserError

DEFAULT_SIZE = 224
LOADERS: dict[str, Callable[[str, int], Task]] = {  # how a task's name begins: what loads the rest, at a size
    "folder:": load_folder,
    "vtab:": load_vtab,
    "vtab1k/": load_vtab1k,
    "shift:": load_shift,
    "real/": load_real,
    "imagenet/": load_imagenet,
}


def load_task(name: str, *, size: int | None = None) -> Task:
    """Load a task into memory.

    ``name`` is one of: an embedded task ("digits", or "world" with its shifted test sets; 32 px, ``size`` must be 32 or
    None), perhaps with another number of training images ("orientation@10000"); "folder:<path>", one sub-folder per
    class; "vtab:<folder>/<name>", a folder in the study's processed VTAB-1K format; "vtab1k/<name>", a pack of it
    (``data.vtab_packs``) or the same under the folder that the environment variable PETL_DATA names; "shift:<folder>/
    <train domain>", one folder per domain with the same classes in each, of which the others are only evaluated on
    (``data.shift``); "real/cifar100@500" and others below PETL_DATA (``data.many``); "imagenet/100shot-seed0"
    (``data.imagenet``). Images of folders are resized to ``size`` pixels (224 unless told).
    Raises UserError where the name, the folder or an image is wrong.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"a task name is a string such as 'digits' or 'folder:my_images', not {name!r}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise UserError(f"size is {size!r}; it must be a whole number of pixels from 1 to 4096")
    for start, load in LOADERS.items():
        if name.startswith(start):
            return load(name.removeprefix(start), size or DEFAULT_SIZE)
    find_embedded(name.partition("@")[0])
    if size not in (None, SIZE):
        raise UserError(f"the embedded task {name!r} exists at {SIZE} pixels only; size is {size}, leave it out")
    return load_amount(name) if "@" in name else load_embedded(name)
