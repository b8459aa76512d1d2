"""The embedded suite's registry. A task is one file in this folder: a function that draws one sample, with a decorator.

The function is called as ``sample(draw, label)`` and returns intensities in [0, 1]: (32, 32) for a grey image or
(32, 32, 3) for colour. ``draw`` is its only source of chance and also says for which split the sample is. Adding a task
is adding a file; then ``python -m petl_make suite --out data/embedded``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from petl_make.suite.draw import Draw

COLOURS = ("grey", "tinted", "colour")

Sampler = Callable[[Draw, int], np.ndarray]


@dataclass(frozen=True)
class EmbeddedTask:
    """What the registry knows of a task. ``colour``: "grey"; "tinted" (grey, then two random colours); or "colour"."""

    name: str
    group: str
    classes: tuple[str, ...]
    description: str
    source: str
    licence: str
    colour: str
    sample: Sampler


_TASKS: dict[str, EmbeddedTask] = {}


def embedded_task(
    name: str, group: str, classes: tuple[str, ...], description: str, source: str, licence: str, colour: str = "colour"
) -> Callable[[Sampler], Sampler]:
    """Register a function ``sample(draw, label)`` as a task of the embedded suite."""
    if colour not in COLOURS:
        raise ValueError(f"task {name!r}: colour is {colour!r}; it must be one of {', '.join(COLOURS)}")

    def register(sample: Sampler) -> Sampler:
        if name in _TASKS:
            raise ValueError(f"two embedded tasks are named {name!r}")
        _TASKS[name] = EmbeddedTask(name, group, classes, description, source, licence, colour, sample)
        return sample

    return register


def embedded_tasks() -> dict[str, EmbeddedTask]:
    """All tasks by name: natural, then specialised, then structured, each in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    order = ("natural", "specialised", "structured", "other")
    return {task.name: task for task in sorted(_TASKS.values(), key=lambda task: (order.index(task.group), task.name))}
