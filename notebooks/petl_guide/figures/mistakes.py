"""Figures of the chapter on different mistakes: pairs of methods, and one row of marks for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from petl_guide.figures import shared
from petl_guide.figures.style import GREY, GROUPS, INK, WIDTH, applied, headline, look
from petl_guide.runs import group_order


@dataclass(frozen=True)
class Mark:
    """How one column of a table is drawn in ``task_marks``."""

    label: str
    marker: str = "o"
    colour: str | None = None  # None: that of the task's group
    filled: bool = True


@applied()
def task_marks(
    table: pd.DataFrame, marks: Mapping[str, Mark], groups: Mapping[str, str], title: str, axis: str
) -> Figure:
    """A row for each task with a mark for each column of ``marks``, joined by a line. ``groups``: task to group."""
    fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.26 * len(table)))
    marks_of_tasks(ax, table, marks, groups)
    ax.set_xlabel(axis)
    ax.set_title(title)
    _legend(fig, marks, groups)
    return fig


@applied()
def task_panels(
    tables: Mapping[str, pd.DataFrame], marks: Mapping[str, Mark], groups: Mapping[str, str], title: str, axis: str
) -> Figure:
    """``task_marks`` in panels side by side, one for each table; all have the same tasks."""
    rows = len(next(iter(tables.values())))
    fig, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 1.55 + 0.26 * rows), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        marks_of_tasks(ax, table, marks, groups)
        ax.set_title(name, fontsize=9, loc="center")
        ax.set_xlabel(axis)
    headline(fig, title)
    _legend(fig, marks, groups)
    return fig


def marks_of_tasks(ax: Axes, table: pd.DataFrame, marks: Mapping[str, Mark], groups: Mapping[str, str]) -> None:
    """Draw the rows of ``task_marks``: tasks in the order of their groups, first on top."""
    rank = {group: i for i, group in enumerate(group_order(groups.values()))}
    ordered = table.sort_values("task", key=lambda t: t.map(lambda name: (rank[groups[name]], name)))[::-1]
    for y, (_, row) in enumerate(ordered.iterrows()):
        values = [row[column] for column in marks]
        ax.plot([min(values), max(values)], [y, y], color="#d5d9dc", lw=1.5, zorder=1)
        for mark, value in zip(marks.values(), values, strict=True):
            own = mark.colour or GROUPS.get(groups[row["task"]], GREY)
            face, edge = (own, INK) if mark.filled else ("white", own)
            ax.plot(value, y, mark.marker, color=face, mec=edge, mew=1.2, ms=6.5, zorder=2)
    shared.rows(ax, [name.replace("_", " ") for name in ordered["task"]])
    shared.lines(ax, "x")


def _legend(fig: Figure, marks: Mapping[str, Mark], groups: Mapping[str, str]) -> None:
    """The marks and, where one takes the colour of the task's group, what those colours are."""
    looks = [(mark.label, mark.marker, mark.colour or "#b0b4b8", mark.filled) for mark in marks.values()]
    if any(mark.colour is None for mark in marks.values()):
        looks += [(f"{group} task", "s", GROUPS.get(group, GREY), True) for group in group_order(groups.values())]
    handles = [
        shared.handle(label, marker, own, filled=filled, mec=INK if filled else own, mew=1.2, ms=6.5)
        for label, marker, own, filled in looks
    ]
    shared.legend(fig, handles, min(4, len(handles)), handletextpad=0.2)


@applied()
def pair_matrix(matrix: pd.DataFrame, title: str, label: str) -> Figure:
    """Methods x methods of a quantity of pairs, for example disagreement; the diagonal is one method's other seeds."""
    names = list(matrix.index)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.3 * len(names)))
    values = matrix.to_numpy(dtype=float)

    def text(i: int, j: int) -> str:
        return f"{values[i, j]:.0f}" if np.isfinite(values[i, j]) else ""

    shared.shaded(ax, values, text, float(np.nanmax(values)), label, bold=np.eye(len(names), dtype=bool))
    shared.method_ticks(ax, names)
    titles = [look(name).title for name in names]
    ax.set_xticks(range(len(names)), titles, rotation=45, ha="right", rotation_mode="anchor")
    shared.colour_labels(ax.get_xticklabels(), names)
    ax.set_title(title)
    return fig
