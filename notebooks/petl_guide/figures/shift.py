"""Figures of the chapter on robustness: accuracy on the target against accuracy under shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_core.study.measures import HALFWAY
from petl_guide.figures.style import GREY, INK, WIDTH, applied, headline, look


def _draw_curve(ax: Axes, curve: pd.DataFrame, method: str, column: str = "shift") -> None:
    """One weight-space ensemble: a line over alpha with a small mark at each point, a hollow one halfway and a large
    one at the tuned end."""
    shown, curve = look(method), curve.sort_values("alpha")
    ax.plot(
        curve["target"], curve[column], color=shown.colour, lw=1.3, marker=shown.marker, ms=3.5, mec="white", mew=0.3
    )
    half = curve[curve["alpha"] == HALFWAY]
    ax.plot(half["target"], half[column], shown.marker, color="white", mec=shown.colour, mew=1.5, ms=6.5, zorder=4)
    end = curve.iloc[-1]
    ax.plot(end["target"], end[column], shown.marker, color=shown.colour, ms=8, mec="white", mew=0.6, zorder=4)


def _draw_start(ax: Axes, at: pd.Series, name: str = "zero-shot") -> None:
    ax.plot(at["target"], at["shift"], "*", color=INK, ms=15, mec="white", zorder=5)
    place = (at["target"], at["shift"])
    ax.annotate(name, place, (0, -19), textcoords="offset points", ha="center", fontsize=9)


def balance(
    curves: pd.DataFrame,
    title: str,
    methods: Sequence[str],
    axes_text: tuple[str, str],
    start_name: str = "zero-shot",
) -> Figure:
    """Target accuracy across, accuracy under shift upwards; from the model that all start from (star) to each tuned
    model (large mark) along alpha, with a hollow mark halfway. ``curves``: method, alpha, target, shift."""
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 4.4))
        start = curves[curves["alpha"] == curves["alpha"].min()].iloc[0]
        ax.axhline(start["shift"], color=GREY, lw=0.8, ls=":")
        for method in methods:
            _draw_curve(ax, curves[curves["method"] == method], method)
        _draw_start(ax, start, start_name)
        ax.set(xlabel=axes_text[0], ylabel=axes_text[1])
        ax.margins(x=0.08, y=0.12)  # the star has its name below it
        ax.grid(color="#e3e6e8", lw=0.7)
        ax.set_axisbelow(True)
        fig.legend(handles=[*_handles(methods), _halfway()], loc="outside lower center", ncols=5)
        ax.set_title(title)
        return fig


def each_shift(curves: pd.DataFrame, title: str, methods: Sequence[str], shifts: Mapping[str, str]) -> Figure:
    """The same with a panel for each shift. ``shifts``: column of ``curves`` to the panel's title."""
    with applied():
        columns = 2
        rows = -(-len(shifts) // columns)
        fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, 0.9 + 2.5 * rows), sharex=True, squeeze=False)
        start = curves[curves["alpha"] == curves["alpha"].min()].iloc[0]
        for ax, (column, text) in zip(axes.flat, shifts.items(), strict=False):
            for method in methods:
                _draw_curve(ax, curves[curves["method"] == method], method, column)
            ax.plot(start["target"], start[column], "*", color=INK, ms=11, mec="white", zorder=5)
            ax.set_title(text, fontsize=9, loc="center")
            ax.grid(color="#e3e6e8", lw=0.7)
        for ax in list(axes.flat)[len(shifts) :]:
            ax.axis("off")
        for ax in axes[-1]:
            ax.set_xlabel("accuracy on the target (%)")
        for line in axes:
            line[0].set_ylabel("accuracy under it (%)")
        fig.legend(handles=[*_handles(methods), _halfway()], loc="outside lower center", ncols=5)
        headline(fig, title)
        return fig


def rates(ends: pd.DataFrame, zero: pd.Series, title: str, methods: Sequence[str]) -> Figure:
    """Every tuned run: target against shift; a line joins a method's means by rate. ``ends``: ``tuned``."""
    with applied():
        fig, ax = plt.subplots(figsize=(WIDTH, 3.9))
        for method in methods:
            shown, part = look(method), ends[ends["method"] == method]
            means = part.groupby("lr")[["target", "shift"]].mean().sort_index()
            ax.plot(part["target"], part["shift"], shown.marker, color=shown.colour, ms=4, alpha=0.35, mew=0)
            ax.plot(means["target"], means["shift"], color=shown.colour, lw=1, marker=shown.marker, ms=6.5, mec="white")
        _draw_start(ax, zero)
        ax.set(xlabel="accuracy on the target (%)", ylabel="mean accuracy under four shifts (%)")
        ax.grid(color="#e3e6e8", lw=0.7)
        fig.legend(handles=_handles(methods), loc="outside lower center", ncols=4)
        ax.set_title(title)
        return fig


def _handles(methods: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=look(m).colour, marker=look(m).marker, ms=6, lw=1.3, label=look(m).title) for m in methods
    ]


def _halfway() -> Line2D:
    return Line2D([], [], ls="", marker="o", color="white", mec=INK, mew=1.5, ms=6, label="halfway (hollow)")
