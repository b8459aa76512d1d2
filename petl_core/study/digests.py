"""Digests of tasks and of weights, by which specs are made, without reading the data wherever that can be avoided.

Those of embedded tasks and backbones stand in ``tasks.json``. Those of image folders and of files of weights are kept
in ``digests/`` of the cache, under a key that changes whenever a file is added, removed or rewritten. A run compares
the digest of its spec with what it has read (``study.execute``), so that none is trusted for longer than a plan.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL

from petl_core.data import embedded
from petl_core.data.layout import shown
from petl_core.data.load import load_task
from petl_core.data.survey import parse
from petl_core.data.walk import walk
from petl_core.models import weights as backbones
from petl_core.utils import EMBEDDED, UserError, __version__, as_given_or_below, cache_folder, petl_data, write_atomic

ABSENT = "absent"  # stands for a digest in specs that are only counted
WHEN_ABSENT = ("refuse", "count")  # what a plan does about data and weights that are not on this machine


def task_digest(name: str, size: int | None = None, absent: str = "refuse") -> str:
    """The digest of a task's data at an image size (None: the task's own). Where the data are not here: ``UserError``
    or, with ``absent="count"``, the word ``ABSENT``."""
    return ABSENT if _is_counted(absent) and why_no_task(name, size) else _task_digest(name, size)


def weights_digest(backbone: str, absent: str = "refuse") -> str:
    """The digest of a backbone's weights. Where they are not here, they are downloaded or, with ``absent="count"``, the
    word ``ABSENT`` is given."""
    return ABSENT if _is_counted(absent) and why_no_weights(backbone) else _weights_digest(backbone)


def why_no_task(name: str, size: int | None = None) -> str:
    """Why a task has no digest here; "" where it has one."""
    try:
        _task_digest(name, size)
    except UserError as error:
        return str(error)
    return ""


@functools.cache
def why_no_weights(backbone: str) -> str:
    """Why a backbone's weights have no digest here, without downloading any; "" where they have one."""
    try:
        path = backbones.file_of(backbone)
        if path is not None:
            return "" if path.is_file() else f"there is no file {path}"
        return "" if backbones.is_here(backbone) else "not on this machine yet; the study fetches them when it starts"
    except UserError as error:
        return str(error)


def forget() -> None:
    """Look at data and weights anew: a process keeps the digests that it has found."""
    _task_digest.cache_clear()
    _weights_digest.cache_clear()
    why_no_weights.cache_clear()


def _is_counted(absent: str) -> bool:
    if absent not in WHEN_ABSENT:
        raise UserError(f"absent is {absent!r}; it must be one of {', '.join(WHEN_ABSENT)}")
    return absent == "count"


@functools.cache
def _task_digest(name: str, size: int | None) -> str:
    if size in (None, embedded.SIZE) and (known := embedded.known_digest(name)):
        return known
    return _kept(f"task {name} {size}", _places(name), lambda: load_task(name, size=size).digest)


@functools.cache
def _weights_digest(backbone: str) -> str:
    if known := embedded.known_weights(backbone):
        return known
    path = backbones.file_of(backbone)
    places = [] if path is None else [path]
    return _kept(f"weights of {backbone}", places, lambda: backbones.digest(backbone))


def _places(name: str) -> list[Path]:
    """The files and folders in which a task lies; none where looking at them is as long as reading the task, which for
    the large sets is decoded already (``data.cache``)."""
    kind, _, rest = name.partition(":")
    if kind == "folder":
        where = as_given_or_below(parse(rest)[0])
        return [where] if where.is_dir() else []  # the pictures of a list may lie anywhere
    if kind == "vtab":
        return [as_given_or_below(rest)]
    if kind == "shift":
        return [as_given_or_below(rest.rstrip("/").rpartition("/")[0])]
    if name.startswith("vtab1k/") and (root := petl_data()):
        return [root / inside / name.removeprefix("vtab1k/") for inside in ("", "vtab1k", "vtab_processed")]
    base = name.partition("@")[0]
    if base in embedded.embedded_tasks():
        blocks = range(-(-embedded.MOST // embedded.BLOCK))
        return [EMBEDDED / f"{base}.npz", *(embedded.block_path(base, block) for block in blocks)]
    return []


def _kept(what: str, places: list[Path], digest: Callable[[], str]) -> str:
    """A digest from the cache, or else found and put there. What versions decode is a part of the key."""
    lines = [line for place in places for line in _listing(place)]
    if not lines:
        return digest()
    key = hashlib.sha256("\n".join([what, __version__, PIL.__version__, *lines]).encode()).hexdigest()[:32]
    path = cache_folder() / "digests" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    found = digest()
    with contextlib.suppress(UserError):  # a cache that cannot be written to costs time alone
        write_atomic(path, json.dumps({"of": what, "digest": found}).encode(), make_folder=True)
    return found


def _listing(place: Path) -> Iterator[str]:
    """Path, size and time of a file, or of each file in a folder and below it, in an order that does not change."""
    if place.is_file():
        found = place.stat()
        yield f"{place.absolute()} {found.st_size} {found.st_mtime_ns}"
    elif place.is_dir():
        yield from (
            f"{shown(str(place.joinpath(*f.parts).absolute()))} {f.size} {f.changed}" for f in walk(place).files
        )
