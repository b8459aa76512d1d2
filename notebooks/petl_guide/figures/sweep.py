"""Figures of the chapters on many images and on the mechanism: accuracy against size, and movement against accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from petl_guide.figures.style import INK, WIDTH, applied, headline, look, wrapped
from petl_guide.sweep import CELL, collapsed


def size_curves(cells: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """Test accuracy against the share of parameters that train, a row of panels for each task, a column for each
    number of images, each with its own scale. ``cells``: ``sweep.cells``; ``rows``: task to the label of its row. Full
    fine-tuning is a dashed line with its interval, linear probing a dotted one, because neither has a size; an arrow
    with a number is a cell that collapsed."""
    with applied():
        grid = _amounts(cells, rows)
        shape = (len(rows), len(grid[0]))
        fig, axes = plt.subplots(*shape, figsize=(WIDTH, 1.2 + 2.1 * shape[0]), sharex=True, squeeze=False)
        gone = set(collapsed(cells)[CELL].itertuples(index=False, name=None))
        alike = all(line == grid[0] for line in grid)
        for i, (line, (task, label)) in enumerate(zip(axes, rows.items(), strict=True)):
            panels = _panels(line, grid[i])
            for ax, images in panels:
                part = cells[(cells["task"] == task) & (cells["images"] == images)]
                fell = np.array([key in gone for key in part[CELL].itertuples(index=False, name=None)], dtype=bool)
                _size_panel(ax, part, fell)
                if i == 0 or not alike:
                    ax.set_title(f"{images:,} images", fontsize=9, loc="center")
            panels[0][0].set_ylabel(f"{label}\ntest accuracy (%)", fontsize=8.5)
        axes[-1][shape[1] // 2].set_xlabel("trained parameters, head apart\n(% of full fine-tuning)")
        fig.legend(handles=_handles(list(dict.fromkeys(cells["method"]))), loc="outside lower center", ncols=4)
        headline(fig, title)
        return fig


def _amounts(table: pd.DataFrame, tasks: Iterable[str]) -> list[list[int | None]]:
    """For each task its numbers of images, the most of each in the last column, None where it has fewer numbers."""
    own = [sorted(set(table.loc[table["task"] == task, "images"])) for task in tasks]
    columns = max(map(len, own))
    return [[*[None] * (columns - len(line)), *line] for line in own]


def _panels(line: Iterable[Axes], amounts: Iterable[int | None]) -> list[tuple[Axes, int]]:
    """The panels of a row that have a number of images, with it; the others are taken off the figure."""
    kept = []
    for ax, images in zip(line, amounts, strict=True):
        if images is None:
            ax.axis("off")
        else:
            kept.append((ax, images))
    return kept


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
    ax.grid(axis="y", color="#e3e6e8", lw=0.7)
    ax.set_axisbelow(True)
    for method, cell in rest.groupby("method"):
        shown, cell = look(str(method)), cell.sort_values("size")
        if method in ("full", "linear"):
            one = cell.iloc[0]
            ax.axhline(one["mean"], color=shown.colour, lw=1.2, ls="--" if method == "full" else ":")
            if method == "full":
                ax.axhspan(one["low"], one["high"], color=shown.colour, alpha=0.12, lw=0)
            continue
        errors = [cell["mean"] - cell["low"], cell["high"] - cell["mean"]]
        mark: dict[str, Any] = {"marker": shown.marker, "ms": 5.5, "mec": "white", "mew": 0.5}
        ax.errorbar(cell["percent"], cell["mean"], errors, color=shown.colour, lw=1.2, elinewidth=0.8, **mark)
    for row in part[fell].itertuples():
        place = (row.percent, low + 0.06 * (high - low))
        ax.annotate("", (row.percent, low), place, arrowprops={"arrowstyle": "-|>", "color": look(row.method).colour})
        ax.annotate(f"{row.mean:.0f}", place, (0, 2), textcoords="offset points", ha="center", fontsize=7)


def _handles(methods: Sequence[str]) -> list[Line2D]:
    styles = {"full": "--", "linear": ":"}
    return [
        Line2D(
            [],
            [],
            color=look(m).colour,
            ls=styles.get(m, "-"),
            marker="" if m in styles else look(m).marker,
            ms=5.5,
            label=look(m).title,
        )
        for m in methods
    ]


def gap_by_images(gaps: Mapping[str, pd.DataFrame], title: str, labels: Mapping[str, str]) -> Figure:
    """Differences to full fine-tuning by number of images, with intervals over seeds: a colour for each task, a filled
    or an open mark for each way to choose (the keys of ``gaps``: task, images, mean, low, high). Above zero the small
    method is ahead."""
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 3.2))
        ax.axhline(0, color=INK, lw=0.8)
        grid = _amounts(next(iter(gaps.values())), labels)
        for k, (how, table) in enumerate(gaps.items()):
            for i, (task, label) in enumerate(labels.items()):
                part = table[table["task"] == task].sort_values("images")
                errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
                colour = ("#d55e00", "#0072b2", "#009e73")[i % 3]
                mark: dict[str, Any] = {
                    "marker": "os^"[i % 3],
                    "ms": 6,
                    "mfc": "white" if k else colour,
                    "ls": "--" if k else "-",
                }
                x = part["images"] * (1 + 0.06 * (2 * k - 1))
                ax.errorbar(x, part["mean"], errors, color=colour, lw=1.3, capsize=3, label=f"{label}, {how}", **mark)
        ax.set_xscale("log")
        if all(line == grid[0] for line in grid):
            ax.set_xticks([n for n in grid[0] if n is not None])
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.minorticks_off()
        ax.set(xlabel="training images", ylabel="points above full fine-tuning")
        fig.legend(loc="outside lower center", ncols=2)
        ax.set_title(wrapped(title))
        return fig


KIND_LOOK = {"full + L2-SP": ("P", "#4d4d4d"), "full + layer-wise rates": ("X", "#4d4d4d")}


def kind_look(kind: str) -> tuple[str, str, str]:
    """Marker, colour and label of a method or of a way to hold full fine-tuning back."""
    if kind in KIND_LOOK:
        marker, colour = KIND_LOOK[kind]
        return marker, colour, f"{look('full').title} + {kind.partition(' + ')[2]}"
    shown = look(kind)
    return shown.marker, shown.colour, shown.title


def setting_panels(
    means: pd.DataFrame, across: tuple[str, str], up: tuple[str, str], title: str, rows: Mapping[str, str]
) -> Figure:
    """A panel for each setting (rows: tasks, columns: numbers of images), a mark for each kind, with intervals of the
    test accuracy where that is drawn upwards. ``across`` and ``up``: a column of ``mechanism.means`` and its label."""
    with applied():
        grid = _amounts(means, rows)
        shape = (len(rows), len(grid[0]))
        fig, axes = plt.subplots(*shape, figsize=(WIDTH, 1.1 + 2.3 * shape[0]), squeeze=False)
        for line, amounts, (task, label) in zip(axes, grid, rows.items(), strict=True):
            panels = _panels(line, amounts)
            for ax, images in panels:
                part = means[(means["task"] == task) & (means["images"] == images)]
                for row in part.dropna(subset=[across[0]]).to_dict("records"):
                    marker, colour, _ = kind_look(row["kind"])
                    x, y = row[across[0]], row[up[0]]
                    if up[0] == "test":
                        ax.plot([x, x], [row["low"], row["high"]], color=colour, lw=1.2, alpha=0.7)
                    hollow = row["kind"] in KIND_LOOK
                    ax.plot(x, y, marker, color="white" if hollow else colour, mec=colour, mew=1.2, ms=7, zorder=3)
                ax.set_title(f"{label}, {images:,} images", fontsize=9, loc="center")
                ax.grid(color="#e3e6e8", lw=0.7)
                ax.set_axisbelow(True)
            panels[0][0].set_ylabel(up[1])
        for ax in axes[-1]:
            ax.set_xlabel(across[1])
        kinds = list(dict.fromkeys(means["kind"]))
        handles = []
        for kind in kinds:
            marker, colour, text = kind_look(kind)
            face = "white" if kind in KIND_LOOK else colour
            handles.append(Line2D([], [], ls="", marker=marker, color=face, mec=colour, mew=1.2, ms=6, label=text))
        fig.legend(handles=handles, loc="outside lower center", ncols=4)
        headline(fig, title)
        return fig


def block_profile(found: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """How far the class token has moved after each block and at the head, a panel for each task, mean over runs with
    each task's most images. ``found``: ``mechanism.runs``."""
    with applied():
        fig, axes = plt.subplots(1, len(rows), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
        for ax, (task, label) in zip(axes[0], rows.items(), strict=True):
            part = found[found["task"] == task]
            most = part["images"].max()
            part = part[part["images"] == most]
            for kind, cell in part.groupby("kind", sort=False):
                marker, colour, text = kind_look(str(kind))
                curve = [sum(values) / len(values) for values in zip(*cell["by_block"], strict=True)]
                face = "white" if kind in KIND_LOOK else colour
                ax.plot(
                    range(1, len(curve) + 1), curve, marker=marker, color=colour, mfc=face, ms=5.5, lw=1.2, label=text
                )
            ax.set_xticks(range(1, len(curve) + 1), [*map(str, range(1, len(curve))), "head"])
            ax.set_title(f"{label}, {most:,} images", fontsize=9, loc="center")
            ax.set_xlabel("after block")
            ax.grid(axis="y", color="#e3e6e8", lw=0.7)
        axes[0][0].set_ylabel("class token moved by (relative)")
        handles, labels = axes[0][0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=4)
        headline(fig, title)
        return fig
