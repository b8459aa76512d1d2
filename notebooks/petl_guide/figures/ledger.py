"""The signature figure of the ledger: a verdict for each claim and source, and the effects on one scale."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from petl_guide.claims.table import SOURCES
from petl_guide.figures import shared
from petl_guide.figures.style import GREY, INK, WIDTH, applied, headline
from petl_guide.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    HETEROGENEOUS,
    NOT_RUN,
    NOT_TESTABLE,
    SUPPORTED,
    TOLD,
    UNDECIDED,
    Verdict,
)

MARKS = {  # shape and colour, either of which alone tells the words apart, and width of the edge
    SUPPORTED: ("o", "#0072b2", 0.5),
    EQUIVALENT: ("s", "#009e73", 0.5),
    HETEROGENEOUS: ("P", "#cc79a7", 0.5),
    CONTRADICTED: ("X", "#d55e00", 0.5),
    UNDECIDED: ("D", "#e69f00", 0.5),
    NOT_RUN: ("_", GREY, 2.0),
    NOT_TESTABLE: (".", GREY, 0.5),
    TOLD: ("", GREY, 0.5),
}
REACH = 5.0  # half intervals; effects beyond are drawn at the edge
FILLS = dict(zip(SOURCES, ("white", None, INK), strict=True))  # of an effect; None: the colour of its word
OFFSETS = dict(zip(SOURCES, (0.25, 0.0, -0.25), strict=True))


@applied()
def verdicts(table: pd.DataFrame, short: dict[str, str], title: str) -> Figure:
    """Left: a mark for each claim (rows of ``claims.ledger``) and source. Right: the effects, standardised, one below
    the other: published, photographs, laptop. ``short``: a few words for each claim."""
    rows = len(table)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 1.5 + 0.45 * rows), sharey=True, gridspec_kw={"width_ratios": [0.38, 1]}
    )
    right.axvspan(-1, 1, color="#f1f3f4", lw=0)
    right.axvline(0, color=INK, lw=0.8)
    for y, (_, row) in enumerate(table[::-1].iterrows()):
        for x, source in enumerate(SOURCES):
            marker, colour, edge = MARKS[row[source].verdict]
            left.plot(x, y, marker, color=colour, ms=9, mew=edge)
            _effect(right, row[source], y + OFFSETS[source], FILLS[source])
        for ax in (left, right):
            ax.axhline(y - 0.5, color="#eceff1", lw=0.8, zorder=0)
    left.set_yticks(range(rows), [f"{c}  {short[c]}" for c in table["claim"][::-1]])
    left.set_xticks(range(len(SOURCES)), SOURCES, rotation=90, fontsize=8.5)
    left.xaxis.tick_top()
    left.set(xlim=(-0.6, len(SOURCES) - 0.4), ylim=(-0.5, rows - 0.5))
    left.spines[:].set_visible(False)
    left.tick_params(length=0)
    right.tick_params(axis="y", length=0)
    right.spines["left"].set_visible(False)
    right.set(xlim=(-REACH - 0.3, REACH + 0.3), xlabel="against the claim  ←  effect, in half intervals  →  for it")
    key = "open: published · filled: photographs\ndark: laptop · dashed: a control fails"
    right.set_title(key, fontsize=8.5, loc="center", color="#5f6368")
    handles = [shared.handle(word, marker, c, ms=8, mew=edge) for word, (marker, c, edge) in MARKS.items() if marker]
    shared.legend(fig, handles, 4, handletextpad=0.1)
    headline(fig, title)
    return fig


def _effect(ax: Axes, verdict: Verdict, y: float, fill: str | None) -> None:
    """One effect with its interval, cut at the edges of the panel."""
    effect, low, high = verdict.standardised
    if not math.isfinite(effect):
        return
    marker, colour, _ = MARKS[verdict.verdict]
    style = (0, (1.5, 1.5)) if verdict.reason.startswith("control") else "-"
    ends = [max(-REACH, min(REACH, end)) for end in (low, high)]
    ax.plot(ends, [y, y], color=colour, lw=1.6, ls=style)
    place = max(-REACH, min(REACH, effect))
    ax.plot(place, y, marker, color=colour, mfc=fill or colour, ms=6, mew=1.2)
    if abs(effect) > REACH:
        sign, shift = ("›", 9) if effect > 0 else ("‹", -9)
        ax.annotate(sign, (place, y), (shift, 0), textcoords="offset points", ha="center", va="center", fontsize=12)
