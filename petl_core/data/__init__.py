"""Tasks by name: the embedded suite and the rendered world, image folders, folders of domains, folders in the study's
VTAB-1K format, its many-shot sets, and ImageNet with few images a class.

``load_task`` is loaded when it is first used: packs of VTAB-1K are made where torch is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petl_core.data.embedded import WORLD, embedded_names
from petl_core.data.task import GROUPS, SPLITS, Task, make_task

if TYPE_CHECKING:
    from petl_core.data.load import load_task

__all__ = ["GROUPS", "SPLITS", "WORLD", "Task", "embedded_names", "load_task", "make_task"]


def __getattr__(name: str) -> Any:
    if name != "load_task":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from petl_core.data.load import load_task

    return load_task
