"""Tasks by name: the embedded suite and the rendered world, image folders, folders of domains, folders in the study's
VTAB-1K format, its many-shot sets, and ImageNet with few images a class.

The names below live in modules of this package and are loaded when one is first used, because what prepares VTAB-1K
runs where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from petl_core.data.embedded import WORLD, embedded_names
    from petl_core.data.load import load_task
    from petl_core.data.task import GROUPS, SPLITS, Task, make_task

__all__ = ["GROUPS", "SPLITS", "WORLD", "Task", "embedded_names", "load_task", "make_task"]

_HOME = {"WORLD": "embedded", "embedded_names": "embedded", "load_task": "load"}
_HOME |= dict.fromkeys(("GROUPS", "SPLITS", "Task", "make_task"), "task")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
