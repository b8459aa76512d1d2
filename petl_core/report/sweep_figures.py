"""Figures of the chapters on many images and on the mechanism: accuracy against size, and movement against accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_core.report.style import INK, WIDTH, applied, look


def size_curves(cells: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """Test accuracy against the share of parameters that train, a row of panels for each task, a column for each
    number of images. ``cells``: ``sweep.cells``; ``rows``: task to the label of its row. Full fine-tuning is a dashed
    line with its interval, linear probing a dotted line, because neither has a size."""
    with applied():
        amounts = sorted(set(cells["images"]))
        shape = (len(rows), len(amounts))
        fig, axes = plt.subplots(
            *shape, figsize=(WIDTH, 0.9 + 2.15 * shape[0]), sharex=True, sharey="row", squeeze=False
        )
        for line, (task, label) in zip(axes, rows.items(), strict=True):
            for ax, images in zip(line, amounts, strict=True):
                _size_panel(ax, cells[(cells["task"] == task) & (cells["images"] == images)])
                if line is axes[0]:
                    ax.set_title(f"{images:,} images", fontsize=9, loc="center")
            line[0].set_ylabel(f"{label}\ntest accuracy (%)", fontsize=8.5)
        fig.supxlabel("trained parameters, head apart (% of full fine-tuning)", fontsize=9)
        fig.legend(handles=_handles(list(dict.fromkeys(cells["method"]))), loc="outside lower center", ncols=4)
        fig.suptitle(title, fontsize=10, ha="left", x=0.01)
        return fig


def _size_panel(ax: Axes, part: pd.DataFrame) -> None:
    ax.set_xscale("log")
    ax.grid(axis="y", color="#e3e6e8", lw=0.7)
    ax.set_axisbelow(True)
    for method, cell in part.groupby("method"):
        shown, cell = look(str(method)), cell.sort_values("size")
        if method in ("full", "linear"):
            one = cell.iloc[0]
            ax.axhline(one["mean"], color=shown.colour, lw=1.2, ls="--" if method == "full" else ":")
            if method == "full":
                ax.axhspan(one["low"], one["high"], color=shown.colour, alpha=0.12, lw=0)
            continue
        errors = [cell["mean"] - cell["low"], cell["high"] - cell["mean"]]
        ax.errorbar(cell["percent"], cell["mean"], errors, color=shown.colour, lw=1.2, elinewidth=0.8,
                    marker=shown.marker, ms=5.5, mec="white", mew=0.5)  # fmt: skip


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


def gap_by_images(gaps: pd.DataFrame, title: str, labels: Mapping[str, str]) -> Figure:
    """Differences to full fine-tuning by number of images: a line for each task, with intervals over seeds.

    ``gaps``: task, images, mean, low, high. Above zero the small method is ahead.
    """
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 3.0))
        ax.axhline(0, color=INK, lw=0.8)
        for i, (task, label) in enumerate(labels.items()):
            part = gaps[gaps["task"] == task].sort_values("images")
            errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
            ax.errorbar(part["images"], part["mean"], errors, color=("#d55e00", "#0072b2", "#009e73")[i % 3],
                        marker="os^"[i % 3], ms=6, lw=1.4, capsize=3, label=label)  # fmt: skip
        ax.set_xscale("log")
        amounts = sorted(set(gaps["images"]))
        ax.set_xticks(amounts, [f"{n:,}" for n in amounts])
        ax.minorticks_off()
        ax.set(xlabel="training images", ylabel="points above full fine-tuning")
        fig.legend(loc="outside lower center", ncols=3)
        ax.set_title(title)
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
        amounts = sorted(set(means["images"]))
        shape = (len(rows), len(amounts))
        fig, axes = plt.subplots(*shape, figsize=(WIDTH, 1.1 + 2.3 * shape[0]), squeeze=False)
        for line, (task, label) in zip(axes, rows.items(), strict=True):
            for ax, images in zip(line, amounts, strict=True):
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
        fig.supxlabel(across[1], fontsize=9)
        fig.supylabel(up[1], fontsize=9)
        kinds = list(dict.fromkeys(means["kind"]))
        handles = []
        for kind in kinds:
            marker, colour, text = kind_look(kind)
            face = "white" if kind in KIND_LOOK else colour
            handles.append(Line2D([], [], ls="", marker=marker, color=face, mec=colour, mew=1.2, ms=6, label=text))
        fig.legend(handles=handles, loc="outside lower center", ncols=4)
        fig.suptitle(title, fontsize=10, ha="left", x=0.01)
        return fig


def block_profile(found: pd.DataFrame, title: str, rows: Mapping[str, str]) -> Figure:
    """How far the class token has moved after each block and at the head, a panel for each task, mean over runs with
    the most images. ``found``: ``mechanism.runs``."""
    with applied():
        most = found["images"].max()
        fig, axes = plt.subplots(1, len(rows), figsize=(WIDTH, 3.0), sharey=True, squeeze=False)
        for ax, (task, label) in zip(axes[0], rows.items(), strict=True):
            part = found[(found["task"] == task) & (found["images"] == most)]
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
        fig.suptitle(title, fontsize=10, ha="left", x=0.01)
        return fig
