"""Figures that compare methods: accuracy by group, tasks x methods, critical differences, pairs, published and ours.

Each takes what ``petl_guide`` gives and a title that states the message, and returns a matplotlib figure 720 px
wide; ``style.show(figure, alt)`` displays it with a description.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_guide.figures.style import FAMILIES, GREY, GROUP_MARKERS, GROUPS, INK, WIDTH, applied, headline, look
from petl_guide.low_shot import ranks
from petl_guide.low_shot.tuning import sample
from petl_guide.runs import group_order


def accuracy_by_group(table: pd.DataFrame, title: str, order: Sequence[str] | None = None) -> Figure:
    """Dots with intervals: a row for each method, a panel for each group. ``table`` is ``accuracy.by_group``."""
    with applied():
        groups = list(dict.fromkeys(table["group"]))
        means = table[table["group"] == groups[-1]].sort_values("mean")
        names = list(order)[::-1] if order is not None else means["method"].tolist()
        fig, axes = plt.subplots(1, len(groups), figsize=(WIDTH, 0.9 + 0.225 * len(names)), sharey=True, squeeze=False)
        for ax, group in zip(axes[0], groups, strict=True):
            part = table[table["group"] == group].set_index("method")
            for y, name in enumerate(names):
                row, shown = part.loc[name], look(name)
                ax.plot([row["low"], row["high"]], [y, y], color=shown.colour, lw=1.6, solid_capstyle="butt")
                ax.plot(row["mean"], y, shown.marker, color=shown.colour, ms=5.5, mec="white", mew=0.5)
            ax.set_title(group, fontsize=9, loc="center")
            ax.grid(axis="x", color="#e3e6e8", lw=0.7)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        _method_labels(axes[0][0], names)
        fig.supxlabel("test accuracy (%)", fontsize=9)
        headline(fig, title)
        return fig


def task_strip(table: pd.DataFrame, title: str, order: Sequence[str]) -> Figure:
    """Methods x tasks of mean accuracy, shaded by the distance to the task's best method. ``table`` is by_task."""
    with applied():
        tasks = [t for g in group_order(table["group"]) for t in sorted(set(table.loc[table["group"] == g, "task"]))]
        group_of = dict(zip(table["task"], table["group"], strict=True))
        wide = table.pivot(index="method", columns="task", values="mean").loc[list(order), tasks]
        gap = wide.max() - wide
        fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.235 * len(wide)))
        top = max(1.0, float(np.quantile(gap, 0.85)))
        image = ax.imshow(gap, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for i, name in enumerate(wide.index):
            for j, task in enumerate(tasks):
                dark = gap.loc[name, task] > 0.6 * top
                weight = "bold" if gap.loc[name, task] == 0 else "normal"
                colour = "white" if dark else INK
                ax.text(
                    j,
                    i,
                    f"{wide.loc[name, task]:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=colour,
                    weight=weight,
                )
        ax.set_xticks(range(len(tasks)), [t.replace("_", "\n") for t in tasks], rotation=40 if len(tasks) > 6 else 0)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        _method_labels(ax, list(wide.index))
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("left" if len(tasks) > 6 else "center")
            label.set_fontsize(8)
            label.set_color(INK)
        for j in range(1, len(tasks)):
            if group_of[tasks[j]] != group_of[tasks[j - 1]]:
                ax.axvline(j - 0.5, color="white", lw=4)
        ax.spines[:].set_visible(False)
        bar = fig.colorbar(image, ax=ax, extend="max", shrink=0.7, pad=0.01, aspect=30)
        bar.set_label("points below the best on the task", fontsize=8)
        bar.outline.set_visible(False)
        headline(fig, title)
        return fig


def critical_difference(scores: pd.DataFrame, title: str, alpha: float = 0.05) -> Figure:
    """Mean ranks on a line, best on the left; a bar joins methods that the Nemenyi test cannot tell apart."""
    with applied():
        means = ranks.average_ranks(scores)
        k, cd = len(means), ranks.critical_difference(len(means), len(scores), alpha)
        groups = ranks.cliques(means, cd)
        left = (k + 1) // 2
        rows, step = max(left, k - left), 0.42
        low = 0.35 + 0.24 * len(groups)
        height = low + step * (rows + 0.6)
        fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.52 * height))
        ax.plot([1, k], [0, 0], color=INK, lw=1)
        for tick in range(1, k + 1):
            ax.plot([tick, tick], [0, 0.12], color=INK, lw=1)
            ax.text(tick, 0.18, str(tick), ha="center", va="bottom", fontsize=8)
        ax.plot([1, min(k, 1 + cd)], [0.85, 0.85], color=INK, lw=1.5, marker="|", ms=7)
        beyond = "" if 1 + cd <= k else ", more than all ranks"
        ax.text(
            1,
            0.98,
            f"critical difference {cd:.2f}{beyond} (α = {alpha:g}, {len(scores)} tasks)",
            fontsize=8,
            va="bottom",
        )
        reach = 0.06 * k
        for i, (name, rank) in enumerate(means.items()):
            shown = look(str(name))
            on_left = i < left
            y = -low - step * (i if on_left else k - 1 - i)
            end = 1 - reach if on_left else k + reach
            ax.plot([rank, rank, end], [0, y, y], color=shown.colour, lw=1)
            ax.plot(rank, 0, shown.marker, color=shown.colour, ms=5, mec="white", mew=0.5, zorder=3, clip_on=False)
            text = f"{shown.title}  {rank:.1f}" if on_left else f"{rank:.1f}  {shown.title}"
            ax.text(
                end, y, f" {text} ", ha="right" if on_left else "left", va="center", fontsize=8.5, color=shown.colour
            )
        for i, clique in enumerate(groups):
            y = -0.26 - 0.24 * i
            ends = [means[clique[0]] - 0.05, means[clique[-1]] + 0.05]
            ax.plot(ends, [y, y], color=INK, lw=3.2, solid_capstyle="round", alpha=0.85)
        ax.set(xlim=(1 - 0.32 * k, k + 0.32 * k), ylim=(-height, 1.5))
        ax.axis("off")
        headline(fig, title)
        return fig


def paired_differences(
    differences: pd.DataFrame, summary: pd.DataFrame, title: str, axis: str, by: str = "method"
) -> Figure:
    """A row for each method (or change): a mark for each task and seed, and the mean with its interval, in points.

    ``differences`` is from ``tuning.paired``, ``summary`` from ``tuning.by_method`` (or both from ``ingredients``).
    """
    with applied():
        names = summary.sort_values("difference")[by].tolist()
        fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.27 * len(names)))
        ax.axvline(0, color=INK, lw=0.8)
        groups = group_order(differences["group"])
        for y, name in enumerate(names):
            shown = look(name)
            row = summary[summary[by] == name].iloc[0]
            for i, group in enumerate(groups):
                part = differences[(differences[by] == name) & (differences["group"] == group)]
                lane = np.full(len(part), y + 0.24 - 0.12 * i)
                ax.plot(
                    part["difference"], lane, GROUP_MARKERS.get(group, "D"), color=GROUPS.get(group), ms=4, alpha=0.8
                )
            ax.plot([row["low"], row["high"]], [y - 0.22, y - 0.22], color=shown.colour, lw=2.2)
            ax.plot(row["difference"], y - 0.22, shown.marker, color=shown.colour, ms=7, mec="white", mew=0.6)
        if by == "method":
            _method_labels(ax, names)
        else:
            ax.set_yticks(range(len(names)), names)
        for y in range(1, len(names)):
            ax.axhline(y - 0.5, color="#eceff1", lw=0.8, zorder=0)
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel=axis, ylim=(-0.6, len(names) - 0.4))
        handles = [
            Line2D([], [], marker=GROUP_MARKERS[g], ls="", color=GROUPS[g], ms=5, label=f"{g} task") for g in groups
        ]
        handles.append(
            Line2D([], [], marker="o", color=GREY, ms=6, lw=2.2, label=f"mean, 95 % over {sample(differences)}")
        )
        fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        ax.set_title(title)
        return fig


def published_and_ours(both: pd.DataFrame, title: str) -> Figure:
    """Ranks of methods, published (across) against ours (up), 1 the best; a panel for each group.

    ``both`` is ``published.beside``. Ranks, because the published means of most methods lie within two points.
    """
    with applied():
        groups = list(dict.fromkeys(both["group"]))
        columns = min(2, len(groups))
        rows = -(-len(groups) // columns)
        fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, 0.9 + 2.6 * rows), squeeze=False)
        for ax in axes.flat[len(groups) :]:
            ax.axis("off")
        for ax, group in zip(axes.flat, groups, strict=False):
            part = both[both["group"] == group]
            x, y = (part[column].rank(ascending=False) for column in ("published", "mean"))
            ax.plot([0.5, len(part) + 0.5], [0.5, len(part) + 0.5], color=GREY, lw=0.8, ls=":")
            for method, across, up in zip(part["method"], x, y, strict=True):
                shown = look(method)
                ax.plot(across, up, shown.marker, color=shown.colour, ms=7, mec="white", mew=0.5)
            ax.set_title(f"{group}: rank correlation {np.corrcoef(x, y)[0, 1]:+.2f}", fontsize=9)
            ticks = [1, *range(4, len(part) + 1, 3)]
            ax.set(xlim=(len(part) + 0.7, 0.3), ylim=(len(part) + 0.7, 0.3), xticks=ticks, yticks=ticks)
        for ax in axes[-1]:
            ax.set_xlabel("published rank (ViT-B/16, VTAB-1K)")
        for ax in axes[:, 0]:
            ax.set_ylabel("rank here")
        names = sorted(set(both["method"]), key=lambda m: (list(FAMILIES).index(look(m).family), look(m).title))
        handles = [
            Line2D([], [], marker=look(m).marker, color=look(m).colour, ls="", label=look(m).title) for m in names
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, handletextpad=0.1, columnspacing=1.0)
        headline(fig, title)
        return fig


def seed_and_method(table: pd.DataFrame, title: str) -> Figure:
    """For each task: the deviation between methods and that between seeds, joined. ``table``: ``variance.by_task``."""
    with applied():
        ordered = table.iloc[::-1].reset_index(drop=True)
        fig, ax = plt.subplots(figsize=(WIDTH, 1.15 + 0.25 * len(ordered)))
        for y, row in ordered.iterrows():
            colour = GROUPS.get(row["group"], GREY)
            ax.plot([row["within"], row["between"]], [y, y], color=colour, lw=2, zorder=1)
            ax.plot(row["within"], y, "o", color="white", mec=INK, ms=6.5, mew=1.3)
            ax.plot(row["between"], y, GROUP_MARKERS.get(row["group"], "D"), color=colour, mec=INK, mew=0.6, ms=7.5)
        ax.set_yticks(range(len(ordered)), ordered["task"].str.replace("_", " "))
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel="standard deviation (points of accuracy)", xlim=(0, None), ylim=(-0.6, len(ordered) - 0.4))
        ax.grid(axis="x", color="#e3e6e8", lw=0.7)
        ax.set_axisbelow(True)
        handles = [Line2D([], [], marker="o", ls="", color="white", mec=INK, label="between seeds of one method")]
        for group in group_order(ordered["group"]):
            label = f"between methods, {group}"
            handles.append(
                Line2D([], [], marker=GROUP_MARKERS[group], ls="", color=GROUPS[group], mec=INK, label=label)
            )
        fig.legend(handles=handles, loc="outside lower center", ncols=2)
        ax.set_title(title)
        return fig


def trial_curves(val: pd.DataFrame, test: pd.DataFrame, title: str) -> Figure:
    """Best validation accuracy of k trials (left) and test accuracy of the choice (right); methods x 1..K each."""
    with applied():
        fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1), sharex=True)
        panels = ((val, "best on 200 validation images"), (test, "the same choices, retrained, on test"))
        for ax, (table, name) in zip(axes, panels, strict=True):
            for method in table.index:
                shown = look(method)
                ax.plot(
                    table.columns, table.loc[method], marker=shown.marker, color=shown.colour, ms=5, label=shown.title
                )
            ax.set_title(name, fontsize=9, loc="center")
            ax.set_xticks(list(table.columns))
            ax.set_xlabel("trials")
            ax.grid(axis="y", color="#e3e6e8", lw=0.7)
        axes[0].set_ylabel("accuracy, mean over tasks (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=6)
        headline(fig, title)
        return fig


def _method_labels(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [look(name).title for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(look(name).colour)
