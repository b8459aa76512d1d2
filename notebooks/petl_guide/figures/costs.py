"""Figures of the chapter on costs: shares of full fine-tuning, memory in its parts, accuracy against each cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from petl_guide.accuracy import pareto
from petl_guide.figures import shared
from petl_guide.figures.style import GREY, INK, WIDTH, applied, headline, look

PARTS = {  # of training memory: label, colour
    "weights": ("weights", "#b8bec4"),
    "activations": ("saved activations", "#56b4e9"),
    "gradients": ("gradients", "#e69f00"),
    "optimiser": ("optimiser state", "#8c510a"),
}


@dataclass(frozen=True)
class Share:
    """How one column of ``shares`` is drawn; an edge of None is the method's colour."""

    label: str
    marker: str
    size: float = 6
    filled: bool = True
    edge: str | None = None


SHARES = {
    "parameters": Share("trained parameters", "o", edge="white"),
    "file": Share("file (head apart)", "|", size=9, edge=INK),
    "memory": Share("training memory", "s"),
    "step": Share("time of a training step", "D", filled=False),
}


@applied()
def shares(table: pd.DataFrame, title: str) -> Figure:
    """A row for each method, the fewest parameters at the bottom: shares of full fine-tuning on a logarithmic axis."""
    rows = table[table["parameters"] > 0].sort_values(["parameters", "method"]).reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.27 * len(rows)))
    for y, row in rows.iterrows():
        colour = look(row["method"]).colour
        ax.plot([row["parameters"], row["memory"]], [y, y], color=shared.LINES, lw=1.5, zorder=1)
        for column, share in SHARES.items():
            face = colour if share.filled else "white"
            edge = share.edge or colour
            ax.plot(row[column], y, share.marker, color=face, mec=edge, mew=1.2, ms=share.size, zorder=2)
    ax.axvline(100, color=GREY, lw=1, ls=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
    shared.method_rows(ax, rows["method"])
    ax.set_xlabel("% of full fine-tuning")
    shared.lines(ax, "x")
    ax.set_title(title)
    handles = [
        shared.handle(
            share.label, share.marker, GREY, filled=share.filled, mec=INK if column == "file" else GREY, mew=1.2,
            ms=share.size,
        )
        for column, share in SHARES.items()
    ]  # fmt: skip
    shared.legend(fig, handles, 4, handletextpad=0.2)
    return fig


@applied()
def memory(table: pd.DataFrame, title: str) -> Figure:
    """Training memory of each method in its exact parts, and what was measured (a line), in megabytes."""
    rows = table.sort_values(["memory", "method"]).reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.25 * len(rows)))
    left = pd.Series(0.0, index=rows.index)
    for part, (_, colour) in PARTS.items():
        ax.barh(rows.index, rows[part], left=left, color=colour, height=0.72)
        left += rows[part]
    ax.plot(rows["peak"], rows.index, "|", color=INK, ms=11, mew=1.6)
    shared.method_rows(ax, rows["method"])
    ax.set_xlabel("MB")
    ax.set_title(title)
    handles: list[Any] = [Patch(color=colour, label=label) for label, colour in PARTS.values()]
    if rows["peak"].notna().any():
        handles.append(shared.handle("measured peak", "|", INK, ms=11, mew=1.6))
    shared.legend(fig, handles, 5)
    return fig


@applied()
def accuracy_against(table: pd.DataFrame, panels: Mapping[str, tuple[str, bool]], title: str) -> Figure:
    """Accuracy (a column of ``table``) against costs, a panel for each; a line joins the methods that none beats.

    ``panels``: column to label and whether the axis is logarithmic (on one, zeros are drawn at the left edge).
    """
    fig, axes, drawn = shared.panel_grid(len(panels), 1.3, 2.5, sharey=True)
    for ax, (name, (label, logarithmic)) in zip(drawn, panels.items(), strict=True):
        cost = table[name].astype(float)
        if logarithmic:
            ax.set_xscale("log")
            cost = cost.where(cost > 0, cost[cost > 0].min() / 4)
        front = pareto(table["accuracy"].tolist(), cost.tolist())
        ax.plot(cost.iloc[front], table["accuracy"].iloc[front], color=GREY, lw=1, zorder=1)
        for method, x, y in zip(table["method"], cost, table["accuracy"], strict=True):
            shared.mark(ax, x, y, method, 7, zorder=2)
        ax.set_xlabel(label)
        ax.grid(color="#eceff1", lw=0.7)
        ax.set_axisbelow(True)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy (%), mini")
    shared.method_legend(fig, shared.by_family(table["method"]))
    headline(fig, title)
    return fig
