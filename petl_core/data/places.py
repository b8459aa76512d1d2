"""Where data lie: the folder that the environment variable PETL_DATA names, and paths below it."""

from __future__ import annotations

import os
from pathlib import Path

from petl_core.errors import UserError


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
