"""Tasks by name: the embedded suite, the rendered world, image folders, folders of domains, folders in the study's
VTAB-1K format, its many-shot sets, and ImageNet with few images a class."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from petl_core.errors import UserError

if TYPE_CHECKING:
    from petl_core.data.embedded import embedded_names
    from petl_core.data.task import GROUPS, SPLITS, Task, make_task
    from petl_core.data.world import WORLD

__all__ = ["GROUPS", "SPLITS", "WORLD", "Task", "embedded_names", "load_task", "make_task"]

_HOME = {"embedded_names": "embedded", "WORLD": "world"}
_HOME |= dict.fromkeys(("GROUPS", "SPLITS", "Task", "make_task"), "task")

DEFAULT_SIZE = 224
LOADERS = {  # how a task's name begins: the module of this package and its function that loads the rest, at a size
    "folder:": ("folders", "load_folder"),
    "vtab:": ("folders", "load_vtab"),
    "vtab1k/": ("folders", "load_vtab1k"),
    "shift:": ("domains", "load_shift"),
    "real/": ("many_real", "load_real"),
    "imagenet/": ("imagenet", "load_imagenet"),
}


def load_task(name: str, *, size: int | None = None) -> Task:
    """Load a task into memory.

    ``name`` is one of: a task of the embedded suite ("digits"; 32 px, ``size`` must be 32 or None), perhaps with
    another number of training images ("orientation@10000", see ``petl_core.data.many``); "world", the rendered world
    with its shifted test sets (32 px, see ``petl_core.data.world``); "folder:<path>", one
    sub-folder per class; "vtab:<folder>/<name>", a folder in the study's processed VTAB-1K format; "vtab1k/<name>",
    a pack of it (``data.vtab_packs``) or the same under the folder that the environment variable PETL_DATA names;
    "shift:<folder>/<train domain>", one folder per domain with the same classes in each, of which the others are only
    evaluated on (``data.domains``); "real/cifar100@500" and others below PETL_DATA (``data.many_real``);
    "imagenet/100shot-seed0" (``data.imagenet``). Images of folders are resized to ``size`` pixels (224 unless told).
    Raises UserError where the name, the folder or an image is wrong.
    """
    from petl_core.data.embedded import find_embedded, load_embedded
    from petl_core.data.many import load_many
    from petl_core.data.suite import SIZE
    from petl_core.data.world import WORLD, load_world

    if not isinstance(name, str) or not name:
        raise UserError(f"a task name is a string such as 'digits' or 'folder:my_images', not {name!r}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise UserError(f"size is {size!r}; it must be a whole number of pixels from 1 to 4096")
    for start, (module, function) in LOADERS.items():
        if name.startswith(start):
            load = getattr(importlib.import_module(f"{__name__}.{module}"), function)
            return load(name.removeprefix(start), size or DEFAULT_SIZE)
    base, _, count = name.partition("@")
    if base == WORLD and count:
        raise UserError(f"{name!r}: the rendered world exists with 1,000 training images only; write {WORLD!r}")
    if name != WORLD:
        find_embedded(base)
    if size not in (None, SIZE):
        raise UserError(f"the embedded task {name!r} exists at {SIZE} pixels only; size is {size}, leave it out")
    if name == WORLD:
        return load_world()
    return load_many(name) if "@" in name else load_embedded(name)


def __getattr__(name: str) -> Any:
    """The names above that live in a module of this package, which is loaded when one of them is first used: what
    prepares data runs where torch is not installed."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
