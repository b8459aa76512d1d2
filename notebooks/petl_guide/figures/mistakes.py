"""Figures of the chapter on different mistakes: pairs of methods, and one row of marks for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_guide.figures.style import GREY, GROUPS, INK, WIDTH, applied, headline, look
from petl_guide.runs import group_order


@dataclass(frozen=True)
class Mark:
    """How one column of a table is drawn in ``task_marks``."""

    label: str
    marker: str = "o"
    colour: str | None = None  # None: that of the task's group
    filled: bool = True


def task_marks(
    table: pd.DataFrame, marks: Mapping[str, Mark], groups: Mapping[str, str], title: str, axis: str
) -> Figure:
    """A row for each task with a mark for each column of ``marks``, joined by a line. ``groups``: task to group."""
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.26 * len(table)))
        marks_of_tasks(ax, table, marks, groups)
        ax.set_xlabel(axis)
        ax.set_title(title)
        _legend(fig, marks, groups)
        return fig


def task_panels(
    tables: Mapping[str, pd.DataFrame], marks: Mapping[str, Mark], groups: Mapping[str, str], title: str, axis: str
) -> Figure:
    """``task_marks`` in panels side by side, one for each table; all have the same tasks."""
    with applied():
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
        colour = GROUPS.get(groups[row["task"]], GREY)
        values = [row[column] for column in marks]
        ax.plot([min(values), max(values)], [y, y], color="#d5d9dc", lw=1.5, zorder=1)
        for mark, value in zip(marks.values(), values, strict=True):
            own = mark.colour or colour
            face = own if mark.filled else "white"
            ax.plot(value, y, mark.marker, color=face, mec=own if not mark.filled else INK, mew=1.2, ms=6.5, zorder=2)
    ax.set_yticks(range(len(ordered)), [name.replace("_", " ") for name in ordered["task"]])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(ordered) - 0.4)
    ax.grid(axis="x", color="#e3e6e8", lw=0.7)
    ax.set_axisbelow(True)


def _legend(fig: Figure, marks: Mapping[str, Mark], groups: Mapping[str, str]) -> None:
    """The marks and, where one takes the colour of the task's group, what those colours are."""
    looks = [(mark.label, mark.marker, mark.colour or "#b0b4b8", mark.filled) for mark in marks.values()]
    if any(mark.colour is None for mark in marks.values()):
        looks += [(f"{group} task", "s", GROUPS.get(group, GREY), True) for group in group_order(groups.values())]
    handles = []
    for label, marker, own, filled in looks:
        face, edge = (own, INK) if filled else ("white", own)
        handles.append(Line2D([], [], marker=marker, ls="", color=face, mec=edge, mew=1.2, ms=6.5, label=label))
    fig.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), handletextpad=0.2)


def pair_matrix(matrix: pd.DataFrame, title: str, label: str) -> Figure:
    """Methods x methods of a quantity of pairs, for example disagreement; the diagonal is one method's other seeds."""
    with applied():
        names: Sequence[str] = list(matrix.index)
        fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.3 * len(names)))
        values = matrix.to_numpy(dtype=float)
        image = ax.imshow(values, cmap="Blues", vmin=0, aspect="auto")
        dark = np.nanmax(values) * 0.6
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > dark else INK
                weight = "bold" if i == j else "normal"
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour, weight=weight)
        titles = [look(name).title for name in names]
        ax.set_yticks(range(len(names)), titles)
        ax.set_xticks(range(len(names)), titles, rotation=45, ha="right", rotation_mode="anchor")
        for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
            for text, name in zip(labels, names, strict=True):
                text.set_color(look(name).colour)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        bar = fig.colorbar(image, ax=ax, shrink=0.7, pad=0.01, aspect=30)
        bar.set_label(label, fontsize=8)
        bar.outline.set_visible(False)
        ax.set_title(title)
        return fig
