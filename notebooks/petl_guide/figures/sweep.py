"""Figures of the chapters on many images and on the mechanism: accuracy against size, and movement against accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from petl_guide.figures import shared
from petl_guide.figures.style import FAMILIES, INK, WIDTH, applied, headline, look, wrapped
from petl_guide.sweep import CELL, collapsed


@applied()
def size_curves(cells: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """Test accuracy against the share of parameters that train, a row of panels for each task, a column for each
    number of images, each with its own scale. ``cells``: ``sweep.cells``; ``rows``: task to the label of its row. Full
    fine-tuning is a dashed line with its interval, linear probing a dotted one, because neither has a size; an arrow
    with a number is a cell that collapsed."""
    fig, axes, panels = _setting_grid(cells, rows, 1.2, 2.1, sharex=True)
    gone = set(collapsed(cells)[CELL].itertuples(index=False, name=None))
    alike = _alike(_amounts(cells, rows))
    for panel in panels:
        fell = np.array([key in gone for key in panel.part[CELL].itertuples(index=False, name=None)], dtype=bool)
        _size_panel(panel.ax, panel.part, fell)
        if panel.task == next(iter(rows)) or not alike:
            panel.ax.set_title(f"{panel.images:,} images", fontsize=9, loc="center")
        if panel.first:
            panel.ax.set_ylabel(f"{rows[panel.task]}\ntest accuracy (%)", fontsize=8.5)
    axes[-1][axes.shape[1] // 2].set_xlabel("trained parameters, head apart\n(% of full fine-tuning)")
    shared.legend(fig, _handles(dict.fromkeys(cells["method"])), 4)
    headline(fig, title)
    return fig


def _amounts(table: pd.DataFrame, tasks: Iterable[str]) -> dict[str, list[int]]:
    """For each task its numbers of images."""
    return {task: sorted(set(table.loc[table["task"] == task, "images"])) for task in tasks}


def _alike(amounts: Mapping[str, list[int]]) -> bool:
    """Have all tasks the same numbers of images?"""
    return len({tuple(numbers) for numbers in amounts.values()}) == 1


@dataclass(frozen=True)
class Panel:
    """The panel of one setting: a task with a number of images, and the rows of a table about it."""

    ax: Axes
    task: str
    images: int
    part: pd.DataFrame
    first: bool  # in its row


def _setting_grid(
    table: pd.DataFrame, tasks: Iterable[str], top: float, height: float, **how: Any
) -> tuple[Figure, np.ndarray, list[Panel]]:
    """A row of panels for each task, ``height`` inches high, one for each number of images, the most of each task in
    the last column; panels without a setting are taken off the figure."""
    amounts = _amounts(table, tasks)
    columns = max(map(len, amounts.values()))
    size = (WIDTH, top + height * len(amounts))
    figure, axes = plt.subplots(len(amounts), columns, figsize=size, squeeze=False, **how)
    panels = []
    for line, (task, numbers) in zip(axes, amounts.items(), strict=True):
        absent = columns - len(numbers)
        for ax in line[:absent]:
            ax.axis("off")
        for ax, images in zip(line[absent:], numbers, strict=True):
            part = table[(table["task"] == task) & (table["images"] == images)]
            panels.append(Panel(ax, task, images, part, images == numbers[0]))
    return figure, axes, panels


def _size_panel(ax: Axes, part: pd.DataFrame, fell: np.ndarray) -> None:
    """One task and number of images; cells that collapsed (``fell``) are arrows at the lower edge."""
    rest = part[~fell]
    pad = 0.12 * (rest["mean"].max() - rest["mean"].min()) + 1
    low, high = rest["mean"].min() - pad, min(100.0, rest["mean"].max() + pad)
    ax.set(xscale="log", ylim=(low, high))
    percent = part.loc[~part["method"].isin(("full", "linear")), "percent"]
    subs = (1,) if percent.max() > 100 * percent.min() else (1, 3)
    ax.xaxis.set(major_locator=LogLocator(subs=subs), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    shared.lines(ax, "y")
    for method, cell in rest.groupby("method"):
        shown, cell = look(str(method)), cell.sort_values("size")
        if method in ("full", "linear"):
            one = cell.iloc[0]
            ax.axhline(one["mean"], color=shown.colour, lw=1.2, ls="--" if method == "full" else ":")
            if method == "full":
                ax.axhspan(one["low"], one["high"], color=shown.colour, alpha=0.12, lw=0)
            continue
        errors = [cell["mean"] - cell["low"], cell["high"] - cell["mean"]]
        mark: dict[str, Any] = {"marker": shown.marker, "ms": 5.5, "mec": "white", "mew": 0.5, "color": shown.colour}
        ax.errorbar(cell["percent"], cell["mean"], errors, lw=1.2, elinewidth=0.8, **mark)
    for row in part[fell].itertuples():
        place = (row.percent, low + 0.06 * (high - low))
        ax.annotate("", (row.percent, low), place, arrowprops={"arrowstyle": "-|>", "color": look(row.method).colour})
        ax.annotate(f"{row.mean:.0f}", place, (0, 2), textcoords="offset points", ha="center", fontsize=7)


def _handles(methods: Iterable[str]) -> list[Line2D]:
    styles = {"full": "--", "linear": ":"}
    handles = []
    for method in methods:
        shown = look(method)
        marker, style = "" if method in styles else shown.marker, styles.get(method, "-")
        handles.append(Line2D([], [], color=shown.colour, ls=style, marker=marker, ms=5.5, label=shown.title))
    return handles


@applied()
def gap_by_images(gaps: Mapping[str, pd.DataFrame], title: str, labels: Mapping[str, str]) -> Figure:
    """Differences to full fine-tuning by number of images, with intervals over seeds: a colour for each task, a filled
    or an open mark for each way to choose (the keys of ``gaps``: task, images, mean, low, high). Above zero the small
    method is ahead."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.2))
    ax.axhline(0, color=INK, lw=0.8)
    amounts = _amounts(next(iter(gaps.values())), labels)
    for k, (how, table) in enumerate(gaps.items()):
        for i, (task, label) in enumerate(labels.items()):
            part = table[table["task"] == task].sort_values("images")
            errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
            colour = ("#d55e00", "#0072b2", "#009e73")[i % 3]
            face, style = ("white", "--") if k else (colour, "-")
            x = part["images"] * (1 + 0.06 * (2 * k - 1))
            mark: dict[str, Any] = {"marker": "os^"[i % 3], "ms": 6, "mfc": face, "ls": style, "color": colour}
            ax.errorbar(x, part["mean"], errors, lw=1.3, capsize=3, label=f"{label}, {how}", **mark)
    ax.set_xscale("log")
    if _alike(amounts):
        ax.set_xticks(next(iter(amounts.values())))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.minorticks_off()
    ax.set(xlabel="training images", ylabel="points above full fine-tuning")
    fig.legend(loc="outside lower center", ncols=2)
    ax.set_title(wrapped(title))
    return fig


HELD_BACK = {"full + L2-SP": "P", "full + layer-wise rates": "X"}  # full fine-tuning, drawn hollow: markers


def kind_look(kind: str) -> tuple[str, str, str, str]:
    """Marker, colour, label and colour of the face of a method or of a way to hold full fine-tuning back."""
    if kind in HELD_BACK:
        return HELD_BACK[kind], FAMILIES["baseline"], f"{look('full').title} + {kind.partition(' + ')[2]}", "white"
    shown = look(kind)
    return shown.marker, shown.colour, shown.title, shown.colour


@applied()
def setting_panels(
    means: pd.DataFrame, across: tuple[str, str], up: tuple[str, str], title: str, rows: Mapping[str, str]
) -> Figure:
    """A panel for each setting (rows: tasks, columns: numbers of images), a mark for each kind, with intervals of the
    test accuracy where that is drawn upwards. ``across`` and ``up``: a column of ``mechanism.means`` and its label."""
    fig, axes, panels = _setting_grid(means, rows, 1.1, 2.3)
    for panel in panels:
        ax = panel.ax
        for row in panel.part.dropna(subset=[across[0]]).to_dict("records"):
            marker, colour, _, face = kind_look(row["kind"])
            x, y = row[across[0]], row[up[0]]
            if up[0] == "test":
                ax.plot([x, x], [row["low"], row["high"]], color=colour, lw=1.2, alpha=0.7)
            ax.plot(x, y, marker, color=face, mec=colour, mew=1.2, ms=7, zorder=3)
        ax.set_title(f"{rows[panel.task]}, {panel.images:,} images", fontsize=9, loc="center")
        shared.lines(ax)
        if panel.first:
            ax.set_ylabel(up[1])
    for ax in axes[-1]:
        ax.set_xlabel(across[1])
    handles = []
    for kind in dict.fromkeys(means["kind"]):
        marker, colour, text, face = kind_look(kind)
        handles.append(shared.handle(text, marker, face, mec=colour, mew=1.2, ms=6))
    shared.legend(fig, handles, 4)
    headline(fig, title)
    return fig


@applied()
def block_profile(found: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """How far the class token has moved after each block and at the head, a panel for each task, mean over runs with
    each task's most images. ``found``: ``mechanism.runs``."""
    fig, axes = plt.subplots(1, len(rows), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
    for ax, (task, label) in zip(axes[0], rows.items(), strict=True):
        part = found[found["task"] == task]
        most = part["images"].max()
        part = part[part["images"] == most]
        for kind, cell in part.groupby("kind", sort=False):
            marker, colour, text, face = kind_look(str(kind))
            curve = [sum(values) / len(values) for values in zip(*cell["by_block"], strict=True)]
            blocks = range(1, len(curve) + 1)
            ax.plot(blocks, curve, marker=marker, color=colour, mfc=face, ms=5.5, lw=1.2, label=text)
        ax.set_xticks(range(1, len(curve) + 1), [*map(str, range(1, len(curve))), "head"])
        ax.set_title(f"{label}, {most:,} images", fontsize=9, loc="center")
        ax.set_xlabel("after block")
        ax.grid(axis="y", color=shared.LINES, lw=0.7)
    axes[0][0].set_ylabel("class token moved by (relative)")
    shared.legend(fig, axes[0][0].get_legend_handles_labels()[0], 4)
    headline(fig, title)
    return fig
