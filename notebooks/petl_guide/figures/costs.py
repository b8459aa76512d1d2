"""Figures of the chapter on costs: shares of full fine-tuning, memory in its parts, accuracy against each cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from petl_guide.accuracy import pareto
from petl_guide.figures.style import GREY, INK, WIDTH, applied, headline, look

PARTS = {  # of training memory: label, colour
    "weights": ("weights", "#b8bec4"),
    "activations": ("saved activations", "#56b4e9"),
    "gradients": ("gradients", "#e69f00"),
    "optimiser": ("optimiser state", "#8c510a"),
}
SHARE_MARKS = {"parameters": "o", "file": "|", "memory": "s", "step": "D"}


def shares(table: pd.DataFrame, title: str) -> Figure:
    """A row for each method, the fewest parameters at the bottom: shares of full fine-tuning on a logarithmic axis."""
    with applied():
        rows = table[table["parameters"] > 0].sort_values(["parameters", "method"]).reset_index(drop=True)
        fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.27 * len(rows)))
        for y, row in rows.iterrows():
            colour = look(row["method"]).colour
            ax.plot([row["parameters"], row["memory"]], [y, y], color="#e3e6e8", lw=1.5, zorder=1)
            for column, marker in SHARE_MARKS.items():
                hollow = column in ("memory", "step")
                face = "white" if column == "step" else colour
                edge = INK if column == "file" else colour if hollow else "white"
                ax.plot(
                    row[column], y, marker, color=face, mec=edge, mew=1.2, ms=9 if column == "file" else 6, zorder=2
                )
        ax.axvline(100, color=GREY, lw=1, ls=":")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        _names(ax, rows["method"])
        ax.set_xlabel("% of full fine-tuning")
        ax.grid(axis="x", color="#e3e6e8", lw=0.7)
        ax.set_axisbelow(True)
        ax.set_title(title)
        labels = {
            "parameters": "trained parameters",
            "file": "file (head apart)",
            "memory": "training memory",
            "step": "time of a training step",
        }
        handles = [
            Line2D(
                [],
                [],
                ls="",
                marker=marker,
                color="white" if column == "step" else GREY,
                mec=INK if column == "file" else GREY,
                mew=1.2,
                ms=9 if column == "file" else 6,
                label=labels[column],
            )
            for column, marker in SHARE_MARKS.items()
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.2)
        return fig


def memory(table: pd.DataFrame, title: str) -> Figure:
    """Training memory of each method in its exact parts, and what was measured (a line), in megabytes."""
    with applied():
        rows = table.sort_values(["memory", "method"]).reset_index(drop=True)
        fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.25 * len(rows)))
        left = pd.Series(0.0, index=rows.index)
        for part, (_, colour) in PARTS.items():
            ax.barh(rows.index, rows[part], left=left, color=colour, height=0.72)
            left += rows[part]
        ax.plot(rows["peak"], rows.index, "|", color=INK, ms=11, mew=1.6)
        _names(ax, rows["method"])
        ax.set_xlabel("MB")
        ax.set_title(title)
        handles: list[Any] = [
            plt.Rectangle((0, 0), 1, 1, color=colour, label=label) for label, colour in PARTS.values()
        ]
        if rows["peak"].notna().any():
            handles.append(Line2D([], [], ls="", marker="|", color=INK, ms=11, mew=1.6, label="measured peak"))
        fig.legend(handles=handles, loc="outside lower center", ncols=5)
        return fig


def accuracy_against(table: pd.DataFrame, panels: Mapping[str, tuple[str, bool]], title: str) -> Figure:
    """Accuracy (a column of ``table``) against costs, a panel for each; a line joins the methods that none beats.

    ``panels``: column to label and whether the axis is logarithmic (on one, zeros are drawn at the left edge).
    """
    with applied():
        names = list(panels)
        rows = -(-len(names) // 2)
        fig, axes = plt.subplots(rows, 2, figsize=(WIDTH, 1.3 + 2.5 * rows), sharey=True, squeeze=False)
        for ax in axes.flat[len(names) :]:
            ax.axis("off")
        for ax, name in zip(axes.flat, names, strict=False):
            label, logarithmic = panels[name]
            cost = table[name].astype(float)
            if logarithmic:
                ax.set_xscale("log")
                cost = cost.where(cost > 0, cost[cost > 0].min() / 4)
            front = pareto(table["accuracy"].tolist(), cost.tolist())
            ax.plot(cost.iloc[front], table["accuracy"].iloc[front], color=GREY, lw=1, zorder=1)
            for method, x, y in zip(table["method"], cost, table["accuracy"], strict=True):
                shown = look(method)
                ax.plot(x, y, shown.marker, color=shown.colour, ms=7, mec="white", mew=0.5, zorder=2)
            ax.set_xlabel(label)
            ax.grid(color="#eceff1", lw=0.7)
            ax.set_axisbelow(True)
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy (%), mini")
        handles = [
            Line2D([], [], ls="", marker=look(m).marker, color=look(m).colour, label=look(m).title)
            for m in sorted(table["method"], key=lambda m: (look(m).family, look(m).title))
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, handletextpad=0.1, columnspacing=1.0)
        headline(fig, title)
        return fig


def _names(ax: plt.Axes, methods: Sequence[str]) -> None:
    ax.set_yticks(range(len(methods)), [look(name).title for name in methods])
    for text, name in zip(ax.get_yticklabels(), methods, strict=True):
        text.set_color(look(name).colour)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(methods) - 0.4)
