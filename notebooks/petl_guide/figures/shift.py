"""Figures of the chapter on robustness: accuracy on the target against accuracy under shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petl_core.study.measures import HALFWAY
from petl_guide.figures import shared
from petl_guide.figures.style import GREY, INK, WIDTH, applied, headline, look


def _draw_curve(ax: Axes, curve: pd.DataFrame, method: str, column: str = "shift") -> None:
    """One weight-space ensemble: a line over alpha with a small mark at each point, a hollow one halfway and a large
    one at the tuned end."""
    shown, curve = look(method), curve.sort_values("alpha")
    shared.mark(ax, curve["target"], curve[column], method, 3.5, 0.3, ls="-", lw=1.3)
    half = curve[curve["alpha"] == HALFWAY]
    ax.plot(half["target"], half[column], shown.marker, color="white", mec=shown.colour, mew=1.5, ms=6.5, zorder=4)
    end = curve.iloc[-1]
    shared.mark(ax, end["target"], end[column], method, 8, 0.6, zorder=4)


def _draw_start(ax: Axes, at: pd.Series, name: str = "zero-shot") -> None:
    place = (at["target"], at["shift"])
    ax.plot(*place, "*", color=INK, ms=15, mec="white", zorder=5)
    ax.annotate(name, place, (0, -19), textcoords="offset points", ha="center", fontsize=9)


@applied()
def balance(
    curves: pd.DataFrame,
    title: str,
    methods: Sequence[str],
    axes_text: tuple[str, str],
    start_name: str = "zero-shot",
) -> Figure:
    """Target accuracy across, accuracy under shift upwards; from the model that all start from (star) to each tuned
    model (large mark) along alpha, with a hollow mark halfway. ``curves``: method, alpha, target, shift."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4))
    start = curves[curves["alpha"] == curves["alpha"].min()].iloc[0]
    ax.axhline(start["shift"], color=GREY, lw=0.8, ls=":")
    for method in methods:
        _draw_curve(ax, curves[curves["method"] == method], method)
    _draw_start(ax, start, start_name)
    ax.set(xlabel=axes_text[0], ylabel=axes_text[1])
    ax.margins(x=0.08, y=0.12)  # the star has its name below it
    shared.lines(ax)
    shared.legend(fig, [*_handles(methods), _halfway()], 5)
    ax.set_title(title)
    return fig


@applied()
def each_shift(curves: pd.DataFrame, title: str, methods: Sequence[str], shifts: Mapping[str, str]) -> Figure:
    """The same with a panel for each shift. ``shifts``: column of ``curves`` to the panel's title."""
    fig, axes, panels = shared.panel_grid(len(shifts), 0.9, 2.5, sharex=True)
    start = curves[curves["alpha"] == curves["alpha"].min()].iloc[0]
    for ax, (column, text) in zip(panels, shifts.items(), strict=True):
        for method in methods:
            _draw_curve(ax, curves[curves["method"] == method], method, column)
        ax.plot(start["target"], start[column], "*", color=INK, ms=11, mec="white", zorder=5)
        ax.set_title(text, fontsize=9, loc="center")
        ax.grid(color=shared.LINES, lw=0.7)
    for ax in axes[-1]:
        ax.set_xlabel("accuracy on the target (%)")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy under it (%)")
    shared.legend(fig, [*_handles(methods), _halfway()], 5)
    headline(fig, title)
    return fig


@applied()
def rates(ends: pd.DataFrame, zero: pd.Series, title: str, methods: Sequence[str]) -> Figure:
    """Every tuned run: target against shift; a line joins a method's means by rate. ``ends``: ``tuned``."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for method in methods:
        shown, part = look(method), ends[ends["method"] == method]
        means = part.groupby("lr")[["target", "shift"]].mean().sort_index()
        ax.plot(part["target"], part["shift"], shown.marker, color=shown.colour, ms=4, alpha=0.35, mew=0)
        ax.plot(means["target"], means["shift"], color=shown.colour, lw=1, marker=shown.marker, ms=6.5, mec="white")
    _draw_start(ax, zero)
    ax.set(xlabel="accuracy on the target (%)", ylabel="mean accuracy under four shifts (%)")
    ax.grid(color=shared.LINES, lw=0.7)
    shared.legend(fig, _handles(methods), 4)
    ax.set_title(title)
    return fig


def _handles(methods: Sequence[str]) -> list[Line2D]:
    handles = shared.method_handles(methods)
    for handle in handles:
        handle.set(linestyle="-", linewidth=1.3)
    return handles


def _halfway() -> Line2D:
    return shared.handle("halfway (hollow)", "o", INK, filled=False, mew=1.5, ms=6)
