"""Figures that compare methods: accuracy by group, tasks x methods, critical differences, pairs, published and ours.

Each takes what ``petl_guide`` gives and a title that states the message, and returns a matplotlib figure 720 px
wide; ``style.show(figure, alt)`` displays it with a description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_guide.figures import shared
from petl_guide.figures.style import GREY, GROUP_MARKERS, GROUPS, INK, WIDTH, applied, headline, look
from petl_guide.low_shot import ranks
from petl_guide.low_shot.tuning import sample
from petl_guide.runs import group_order


@applied()
def accuracy_by_group(table: pd.DataFrame, title: str, order: Sequence[str] | None = None) -> Figure:
    """Dots with intervals: a row for each method, a panel for each group. ``table`` is ``accuracy.by_group``."""
    groups = list(dict.fromkeys(table["group"]))
    means = table[table["group"] == groups[-1]].sort_values("mean")
    names = list(order)[::-1] if order is not None else means["method"].tolist()
    fig, axes = plt.subplots(1, len(groups), figsize=(WIDTH, 0.9 + 0.225 * len(names)), sharey=True, squeeze=False)
    for ax, group in zip(axes[0], groups, strict=True):
        part = table[table["group"] == group].set_index("method")
        for y, name in enumerate(names):
            row = part.loc[name]
            ax.plot([row["low"], row["high"]], [y, y], color=look(name).colour, lw=1.6, solid_capstyle="butt")
            shared.mark(ax, row["mean"], y, name, 5.5)
        ax.set_title(group, fontsize=9, loc="center")
        shared.lines(ax, "x")
        ax.tick_params(axis="y", length=0)
    shared.method_ticks(axes[0][0], names)
    fig.supxlabel("test accuracy (%)", fontsize=9)
    headline(fig, title)
    return fig


@applied()
def task_strip(table: pd.DataFrame, title: str, order: Sequence[str]) -> Figure:
    """Methods x tasks of mean accuracy, shaded by the distance to the task's best method. ``table`` is by_task."""
    tasks = [t for g in group_order(table["group"]) for t in sorted(set(table.loc[table["group"] == g, "task"]))]
    group_of = dict(zip(table["task"], table["group"], strict=True))
    wide = table.pivot(index="method", columns="task", values="mean").loc[list(order), tasks]
    gap = (wide.max() - wide).to_numpy()
    fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.235 * len(wide)))
    top = max(1.0, float(np.quantile(gap, 0.85)))
    label = "points below the best on the task"
    shared.shaded(ax, gap, lambda i, j: f"{wide.iloc[i, j]:.1f}", top, label, bold=gap == 0, extend="max")
    many = len(tasks) > 6
    ax.set_xticks(range(len(tasks)), [t.replace("_", "\n") for t in tasks], rotation=40 if many else 0)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for text in ax.get_xticklabels():
        text.set(ha="left" if many else "center", fontsize=8, color=INK)
    shared.method_ticks(ax, list(wide.index))
    for j in range(1, len(tasks)):
        if group_of[tasks[j]] != group_of[tasks[j - 1]]:
            ax.axvline(j - 0.5, color="white", lw=4)
    headline(fig, title)
    return fig


@applied()
def critical_difference(scores: pd.DataFrame, title: str, alpha: float = 0.05) -> Figure:
    """Mean ranks on a line, best on the left; a bar joins methods that the Nemenyi test cannot tell apart."""
    means = ranks.average_ranks(scores)
    k, cd = len(means), ranks.critical_difference(len(means), len(scores), alpha)
    groups = ranks.cliques(means, cd)
    left = (k + 1) // 2
    low, step = 0.35 + 0.24 * len(groups), 0.42
    height = low + step * (max(left, k - left) + 0.6)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.52 * height))
    _ruler(ax, k, cd, f"(α = {alpha:g}, {len(scores)} tasks)")
    reach = 0.06 * k
    for i, (name, rank) in enumerate(means.items()):
        shown = look(str(name))
        on_left = i < left
        y = -low - step * (i if on_left else k - 1 - i)
        end = 1 - reach if on_left else k + reach
        ax.plot([rank, rank, end], [0, y, y], color=shown.colour, lw=1)
        shared.mark(ax, rank, 0, str(name), 5, zorder=3, clip_on=False)
        text = f" {shown.title}  {rank:.1f} " if on_left else f" {rank:.1f}  {shown.title} "
        ax.text(end, y, text, ha="right" if on_left else "left", va="center", fontsize=8.5, color=shown.colour)
    for i, clique in enumerate(groups):
        y = -0.26 - 0.24 * i
        ends = [means[clique[0]] - 0.05, means[clique[-1]] + 0.05]
        ax.plot(ends, [y, y], color=INK, lw=3.2, solid_capstyle="round", alpha=0.85)
    ax.set(xlim=(1 - 0.32 * k, k + 0.32 * k), ylim=(-height, 1.5))
    ax.axis("off")
    headline(fig, title)
    return fig


def _ruler(ax: Axes, k: int, cd: float, of: str) -> None:
    """The line of ranks from 1 to k, and above it the critical difference as a bar with its words."""
    ax.plot([1, k], [0, 0], color=INK, lw=1)
    for tick in range(1, k + 1):
        ax.plot([tick, tick], [0, 0.12], color=INK, lw=1)
        ax.text(tick, 0.18, str(tick), ha="center", va="bottom", fontsize=8)
    ax.plot([1, min(k, 1 + cd)], [0.85, 0.85], color=INK, lw=1.5, marker="|", ms=7)
    beyond = "" if 1 + cd <= k else ", more than all ranks"
    ax.text(1, 0.98, f"critical difference {cd:.2f}{beyond} {of}", fontsize=8, va="bottom")


@applied()
def paired_differences(
    differences: pd.DataFrame, summary: pd.DataFrame, title: str, axis: str, by: str = "method"
) -> Figure:
    """A row for each method (or change): a mark for each task and seed, and the mean with its interval, in points.

    ``differences`` is from ``tuning.paired``, ``summary`` from ``tuning.by_method`` (or both from ``ingredients``).
    """
    names = summary.sort_values("difference")[by].tolist()
    fig, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.27 * len(names)))
    ax.axvline(0, color=INK, lw=0.8)
    groups = group_order(differences["group"])
    for y, name in enumerate(names):
        row = summary[summary[by] == name].iloc[0]
        for i, group in enumerate(groups):
            part = differences[(differences[by] == name) & (differences["group"] == group)]
            lane = np.full(len(part), y + 0.24 - 0.12 * i)
            marker = GROUP_MARKERS.get(group, "D")
            ax.plot(part["difference"], lane, marker, color=GROUPS.get(group), ms=4, alpha=0.8)
        ax.plot([row["low"], row["high"]], [y - 0.22, y - 0.22], color=look(name).colour, lw=2.2)
        shared.mark(ax, row["difference"], y - 0.22, name, 7, 0.6)
    if by == "method":
        shared.method_rows(ax, names)
    else:
        shared.rows(ax, names)
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color="#eceff1", lw=0.8, zorder=0)
    ax.set(xlabel=axis)
    handles = [shared.handle(f"{g} task", GROUP_MARKERS[g], GROUPS[g], ms=5) for g in groups]
    mean = f"mean, 95 % over {sample(differences)}"
    handles.append(Line2D([], [], marker="o", color=GREY, ms=6, lw=2.2, label=mean))
    shared.legend(fig, handles, len(handles))
    ax.set_title(title)
    return fig


@applied()
def published_and_ours(both: pd.DataFrame, title: str) -> Figure:
    """Ranks of methods, published (across) against ours (up), 1 the best; a panel for each group.

    ``both`` is ``published.beside``. Ranks, because the published means of most methods lie within two points.
    """
    groups = list(dict.fromkeys(both["group"]))
    fig, axes, panels = shared.panel_grid(len(groups), 0.9, 2.6)
    for ax, group in zip(panels, groups, strict=True):
        part = both[both["group"] == group]
        x, y = (part[column].rank(ascending=False) for column in ("published", "mean"))
        ax.plot([0.5, len(part) + 0.5], [0.5, len(part) + 0.5], color=GREY, lw=0.8, ls=":")
        for method, across, up in zip(part["method"], x, y, strict=True):
            shared.mark(ax, across, up, method, 7)
        ax.set_title(f"{group}: rank correlation {np.corrcoef(x, y)[0, 1]:+.2f}", fontsize=9)
        ticks = [1, *range(4, len(part) + 1, 3)]
        ax.set(xlim=(len(part) + 0.7, 0.3), ylim=(len(part) + 0.7, 0.3), xticks=ticks, yticks=ticks)
    for ax in axes[-1]:
        ax.set_xlabel("published rank (ViT-B/16, VTAB-1K)")
    for ax in axes[:, 0]:
        ax.set_ylabel("rank here")
    shared.method_legend(fig, shared.by_family(set(both["method"])))
    headline(fig, title)
    return fig


@applied()
def seed_and_method(table: pd.DataFrame, title: str) -> Figure:
    """For each task: the deviation between methods and that between seeds, joined. ``table``: ``variance.by_task``."""
    ordered = table.iloc[::-1].reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.15 + 0.25 * len(ordered)))
    for y, row in ordered.iterrows():
        colour = GROUPS.get(row["group"], GREY)
        ax.plot([row["within"], row["between"]], [y, y], color=colour, lw=2, zorder=1)
        ax.plot(row["within"], y, "o", color="white", mec=INK, ms=6.5, mew=1.3)
        ax.plot(row["between"], y, GROUP_MARKERS.get(row["group"], "D"), color=colour, mec=INK, mew=0.6, ms=7.5)
    shared.rows(ax, ordered["task"].str.replace("_", " ").tolist())
    ax.set(xlabel="standard deviation (points of accuracy)", xlim=(0, None))
    shared.lines(ax, "x")
    handles = [shared.handle("between seeds of one method", "o", "white", mec=INK)]
    for group in group_order(ordered["group"]):
        handles.append(shared.handle(f"between methods, {group}", GROUP_MARKERS[group], GROUPS[group], mec=INK))
    shared.legend(fig, handles, 2)
    ax.set_title(title)
    return fig


@applied()
def trial_curves(val: pd.DataFrame, test: pd.DataFrame, title: str) -> Figure:
    """Best validation accuracy of k trials (left) and test accuracy of the choice (right); methods x 1..K each."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1), sharex=True)
    panels = ((val, "best on 200 validation images"), (test, "the same choices, retrained, on test"))
    for ax, (table, name) in zip(axes, panels, strict=True):
        for method in table.index:
            shown, values = look(method), table.loc[method]
            ax.plot(table.columns, values, marker=shown.marker, color=shown.colour, ms=5, label=shown.title)
        ax.set_title(name, fontsize=9, loc="center")
        ax.set_xticks(list(table.columns))
        ax.set_xlabel("trials")
        ax.grid(axis="y", color=shared.LINES, lw=0.7)
    axes[0].set_ylabel("accuracy, mean over tasks (%)")
    shared.legend(fig, axes[0].get_legend_handles_labels()[0], 6)
    headline(fig, title)
    return fig


@applied()
def equal_budgets(curves: Mapping[str, pd.Series], title: str, k: int = 4) -> Figure:
    """Expected best validation accuracy (percent) against trials, a line for each method, marked at ``k`` and at all
    that it had. ``curves`` is from ``budgets.curves``."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2))
    ax.axvspan(k / 1.07, k * 1.07, color=shared.LINES, zorder=0)
    names = shared.by_family(curves)
    for method in names:
        curve = curves[method]
        ax.plot(curve.index, curve, color=look(method).colour, lw=1.3)
        for trials in sorted({k, curve.index[-1]}):
            shared.mark(ax, trials, curve[trials], method, 6.5, zorder=3)
    most = max(curve.index[-1] for curve in curves.values())
    ticks = sorted({1, 2, k, 8, 16, 32, int(most)})
    ax.set_xscale("log")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    at_k = [curve[k] for curve in curves.values()]
    ax.set(xlabel="trials", ylabel="best on validation, expected (%)", ylim=(min(at_k) - 5, None))
    shared.lines(ax, "y")
    shared.method_legend(fig, names)
    headline(fig, title)
    return fig
