"""Writing files so that a reader finds the old file or the whole new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from petl_core.errors import UserError

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


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Write ``content`` (bytes, or a function that writes to the open file it is given) to ``path``; returns the path.

    The bytes go to a temporary name in the same folder, are synced to the disk and renamed. Whatever goes wrong, the
    temporary file is removed and a file that was at ``path`` stays as it was.
    Raises ``UserError`` with the next step where the disk or the folder does not let it be written.
    """
    path = Path(path)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        step = _NEXT_STEP.get(error.errno or 0, "choose another place")
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; {step}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed already, or never made
            temporary.unlink()
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last; some systems (Windows, some network disks) cannot sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
