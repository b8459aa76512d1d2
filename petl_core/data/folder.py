"""A task from the user's own images: a folder of class folders, perhaps below train/, val/ and test/, or a list.

``survey`` finds out what is there, and what of it can be used; the pictures are decoded once, into the cache.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from petl_core.data.cache import Listed, packed, packed_task
from petl_core.data.layout import shown
from petl_core.data.split import split_sizes, stratified
from petl_core.data.survey import Options, Survey, survey, with_options
from petl_core.data.task import Task
from petl_core.utils import UserError

__all__ = ["Options", "load_folder", "split_sizes", "stratified", "with_options"]


def load_folder(place: str, size: int) -> Task:
    """A task from a folder or list, at ``size`` pixels; behind its path there may be ``survey.Options``.

    Given splits are used. Otherwise ``split.parted`` shares the images out, each class into train first, and pictures
    that look alike on one side. Raises UserError that says all that speaks against it: classes with too few images,
    too many files that cannot be read, a disk without space.
    """
    return task_of(survey(place), size)


def task_of(found: Survey, size: int) -> Task:
    """The task of a survey."""
    if found.refused:
        raise UserError("; ".join(found.refused))
    rows = np.concatenate(list(found.splits.values()))
    names, labels = found.names, found.layout.labels
    entries = []
    for row in rows.tolist():
        file = found.files[found.layout.rows[row]]
        path = found.root.joinpath(*file.parts)
        entries.append(Listed(names[row], int(labels[row]), f"{shown(str(path))} {file.size} {file.changed}", path))
    prepare = found.preparation(size)
    splits = {split: len(index) for split, index in found.splits.items()}
    part = packed("folder", entries, size, prepare)
    name = f"folder:{shown(found.root.resolve().name)}"
    task = packed_task(name, "other", found.layout.classes, parts=[part], splits=splits)
    return replace(task, preparation=prepare)
