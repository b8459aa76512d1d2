"""What every room uses: the error for bad input, checks of settings, where data lie, and writing files whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache, partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from tqdm import tqdm

__version__ = "0.1.0"


class UserError(ValueError):
    """Bad input. The command line prints the message without a traceback and exits with code 2."""


def exit_code(program: str, act: Callable[[], int], stopped: str = "stopped") -> int:
    """What a command's function returns; 2 after one message on standard error for bad input, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files in letters that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    try:
        return act()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{program}: {stopped}", file=sys.stderr)
        return 130


def _data() -> Path:
    """``data/`` beside the package or, if that was installed without it (pip install .), in the checkout worked in."""
    beside = Path(__file__).resolve().parent.parent / "data"
    here = Path.cwd()
    checkouts = (folder / "data" for folder in (here, *here.parents) if (folder / "petl_core" / "utils.py").is_file())
    return next((folder for folder in (beside, *checkouts) if (folder / "embedded").is_dir()), beside)


DATA = _data()
EMBEDDED = DATA / "embedded"
RESULTS = DATA / "results"
PUBLISHED = DATA / "published"


def cache_folder() -> Path:
    """Where drawn images and written heads are kept: ``PETL_CACHE``, or petl_core in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PETL_CACHE") or Path(base) / "petl_core")


def petl_data() -> Path | None:
    """The folder that PETL_DATA names; None where the variable is not set. ``UserError`` where it is no folder."""
    text = os.environ.get("PETL_DATA", "").strip()
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_dir():
        raise UserError(f"the environment variable PETL_DATA is {text!r}, which is not a folder; create or correct it")
    return path


def as_given_or_below(place: str) -> Path:
    """The path as it is written if it exists, else the same below PETL_DATA if it exists there, else as written."""
    given, root = Path(place).expanduser(), petl_data()
    below = root / place if root is not None else given
    return below if not given.exists() and below.exists() else given


def short_name(path: Path) -> str:
    """A name for a folder that says nothing about this machine: relative to PETL_DATA if below it, else its last
    part. Names of tasks go into records, and records are shipped."""
    path, root = path.resolve(), petl_data()
    if root is not None and path.is_relative_to(root.resolve()) and path != root.resolve():
        return path.relative_to(root.resolve()).as_posix()
    return path.name


_NEXT_STEP = {
    errno.ENOSPC: "free some space there or choose another disk",
    errno.EDQUOT: "free some of your quota there or choose another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "make the folder first or correct its name",
    errno.ENOTDIR: "a part of the path is a file; choose another name",
    errno.EISDIR: "that is a folder; add a file name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], object], *, make_folder: bool = False) -> Path:
    """Write ``content`` (bytes, or a function that writes to the open file it is given) to ``path``; returns the path.

    The bytes go to a temporary name in the same folder, are synced to the disk and renamed. Whatever goes wrong, the
    temporary file is removed and a file that was at ``path`` stays as it was.
    Raises ``UserError`` with the next step where the disk or the folder does not let it be written.
    """
    path = Path(path)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        step = _NEXT_STEP.get(error.errno or 0, "choose another place")
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; {step}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed already, or never made
            temporary.unlink()
    return path


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last; some systems (Windows, some network disks) cannot sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def progress_bar(
    items: Iterable[Any] | None = None,
    title: str | None = None,
    *,
    shown: bool = True,
    delay: float = 2.0,
    **options: Any,
) -> tqdm:
    """A tqdm bar over ``items`` that goes away at its end; none where standard error is no terminal.

    ``shown`` False: none anywhere. ``delay``: seconds before it appears. ``options`` are tqdm's (total, unit).
    """
    from tqdm import tqdm

    return tqdm(items, desc=title, disable=None if shown else True, delay=delay, leave=False, **options)


@dataclass(frozen=True)
class Allowed:
    """Which numbers a setting may have, in words and as a test; a part of the field's annotated type."""

    words: str
    holds: Callable[[float], bool]


Positive = Annotated[int, Allowed("a whole number, 1 or more", lambda value: value >= 1)]
PositiveNumber = Annotated[float, Allowed("a finite number above 0", lambda value: 0.0 < value < inf)]
NumberFromZero = Annotated[float, Allowed("a finite number, 0 or more", lambda value: 0.0 <= value < inf)]
Fraction = Annotated[float, Allowed("a number in [0, 1)", lambda value: 0.0 <= value < 1.0)]
Share = Annotated[float, Allowed("a number in (0, 1]", lambda value: 0.0 < value <= 1.0)]
_types: Any = cache(partial(get_type_hints, include_extras=True))  # of a class: field to type


@cache
def choices(cls: type) -> dict[str, tuple[str, ...]]:
    """The fields of a dataclass that hold one of some texts, and these texts: what is typed as ``Literal`` or, where
    texts come from elsewhere, as a ``str`` that is annotated with one."""
    kinds = {field: (kind, *getattr(kind, "__metadata__", ())) for field, kind in _types(cls).items()}
    return {field: get_args(part) for field, parts in kinds.items() for part in parts if get_origin(part) is Literal}


def check_fields(owner: Any, name: str) -> None:
    """Raise ``UserError``, with ``name`` in front, unless every field of a dataclass holds what its type allows: one
    of its ``choices``, or a number as in ``Positive`` above. Fields of other types are not looked at."""
    cls: Any = type(owner)
    texts = choices(cls)
    for field in fields(cls):
        kind, value = _types(cls)[field.name], getattr(owner, field.name)
        if field.name in texts and value not in texts[field.name]:
            raise UserError(f"{name}: {field.name} is {value!r}; allowed: {', '.join(texts[field.name])}")
        for rule in getattr(kind, "__metadata__", ()):
            numbers = int if get_args(kind)[0] is int else (int, float)
            if not isinstance(rule, Allowed):
                continue
            if isinstance(value, bool) or not isinstance(value, numbers) or not rule.holds(value):
                raise UserError(f"{name}: {field.name} is {value!r}; it must be {rule.words}")
