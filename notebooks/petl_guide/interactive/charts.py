"""The charts of the offline explorers, for ``report.offline``: Vega-Lite through altair, one function each.

Each takes the frame of all answers and reads the reader's choice from the parameters ``offline.parameter(control)``.
Methods have the colours of ``report.style``; what is not chosen is grey, so no chart needs a legend of methods. The
title becomes the figure's caption, which can wrap on a narrow page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from petl_core.methods import names
from petl_guide.anatomy import STATIONS
from petl_guide.figures.style import GREY, INK, look, title
from petl_guide.interactive.offline import parameter

NOTHING = 100  # where methods without parameters are drawn on a logarithmic axis
PALE = "#c9ced3"
DECADES = alt.Axis(values=[10**n for n in range(2, 9)], format="~s", labelFlush=False)


def _is(*controls: str) -> str:
    """The expression that is true for rows of the present choice."""
    return " && ".join(f"datum['{control}'] === {parameter(control)}" for control in controls)


def _by_title(of: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=[title(m) for m in of], range=[look(m).colour for m in of])


def _sized(chart: Any, height: int, message: str) -> Any:
    return chart.properties(width="container", height=height, title=message)


def counts(frame: pd.DataFrame) -> Any:
    """Bars: trained parameters of every method on the chosen backbone, at the chosen size."""
    shown = frame.assign(title=frame["method"].map(title), at=frame["trained"].clip(lower=NOTHING))
    base = alt.Chart(shown).transform_filter(_is("backbone", "size"))
    y = alt.Y("title:N", title=None, sort=[title(m) for m in names()])
    scale = alt.Scale(type="log", domainMin=NOTHING, nice=False)
    x = alt.X("at:Q", scale=scale, axis=DECADES, title="trained parameters, head not counted")
    colour = alt.condition(_is("method"), alt.Color("title:N", scale=_by_title(names()), legend=None), alt.value(PALE))
    bars = base.mark_bar().encode(x=x, x2=alt.datum(NOTHING), y=y, color=colour)
    text = base.mark_text(align="left", dx=3, fontSize=10, color=INK).encode(
        x=x, y=y, text=alt.Text("trained:Q", format=",")
    )
    return _sized(bars + text, 380, "Trained parameters of every method")


STATION_MARKS: dict[str, dict[str, Any]] = {  # by kind of station: how its mark on the wire looks
    "box": {"shape": "square", "size": 130, "fill": "#dadce0", "strokeWidth": 0.8},
    "plus": {"shape": "circle", "size": 150, "fill": "white", "strokeWidth": 1},
    "site": {"shape": "circle", "size": 110, "strokeWidth": 1},
}
LEFT, QUIET = {"align": "left"}, {"color": "#5f6368"}


def sites(frame: pd.DataFrame) -> Any:
    """The way from images to logits, downwards: operations as boxes, sites as dots, the chosen one filled."""
    methods = frame.set_index("site")["methods"]
    counts_of = {site: 0 if text == "none" else text.count(",") + 1 for site, text in methods.items()}
    rows = []
    for place, station in enumerate(STATIONS):
        count = counts_of.get(station.name, 0) if station.kind == "site" else 0
        acting = {0: "", 1: "1 method"}.get(count, f"{count} methods")
        rows.append({"y": place, "kind": station.kind, "site": station.name, "label": station.label, "acting": acting})
    every = alt.Chart(pd.DataFrame(rows))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(STATIONS) - 0.3], reverse=True, nice=False))

    def at(x: float) -> Any:
        return alt.datum(x, type="quantitative")

    inside = [place for place, station in enumerate(STATIONS) if station.in_block]
    ends = pd.DataFrame([{"top": inside[0] - 0.5, "end": inside[-1] + 0.5, "left": 0, "right": 10}])
    x = alt.X("left:Q", scale=alt.Scale(domain=[0, 10]), axis=None)
    block = alt.Chart(ends).mark_rect(color="#f1f3f4", cornerRadius=6)
    layers = [
        block.encode(x=x, x2="right:Q", y=alt.Y("top:Q", axis=None), y2="end:Q"),
        every.mark_line(color=INK, strokeWidth=1).encode(x=at(3.0), y=y),
    ]
    for kind, how in STATION_MARKS.items():
        marks = every.transform_filter(f"datum.kind === '{kind}'").mark_point(stroke=INK, opacity=1, **how)
        if kind == "site":
            marks = marks.encode(fill=alt.condition(_is("site"), alt.value("#d55e00"), alt.value("white")))
        layers.append(marks.encode(x=at(3.0), y=y))
    chosen = {**LEFT, "fontSize": 12, "fontWeight": "bold", "color": "#a84300"}
    texts: list[tuple[str, float, str, dict[str, Any]]] = [
        ("datum.kind === 'box'", 2.6, "label", {"align": "right", **QUIET}),
        ("datum.kind === 'plus'", 3.0, "label", {}),
        (f"datum.kind === 'site' && !({_is('site')})", 3.5, "label", LEFT),
        (f"datum.kind === 'site' && {_is('site')}", 3.5, "label", chosen),
        ("datum.kind === 'site'", 7.0, "acting", {**LEFT, **QUIET}),
    ]
    for condition, left, field, style in texts:
        words = every.transform_filter(condition).mark_text(**{"fontSize": 11, "color": INK, **style})
        layers.append(words.encode(x=at(left), y=y, text=field))
    message = "From images to logits: operations (squares) and sites (dots)"
    return _sized(alt.layer(*layers), 17 * len(STATIONS), message)


def updates(frame: pd.DataFrame) -> Any:
    """Lines: accuracy against the scale of the update, one for each rank; the chosen rank in colour."""
    base = alt.Chart(frame)
    x = alt.X("scale:Q", title="scale of the update")
    y = alt.Y("accuracy (%):Q", title="accuracy on test images (%)", scale=alt.Scale(zero=False))
    ranks = alt.Scale(scheme="goldorange")
    legend = alt.Legend(orient="bottom", title="directions kept", symbolType="stroke", symbolStrokeWidth=3)
    colour = alt.Color("rank:O", scale=ranks, legend=legend)
    lines = base.mark_line().encode(
        x=x, y=y, color=colour, strokeWidth=alt.condition(_is("rank"), alt.value(4), alt.value(1.2))
    )
    point = base.transform_filter(_is("rank", "scale")).mark_point(size=160, filled=True, color=INK, opacity=1)
    return _sized(lines + point.encode(x=x, y=y), 320, "The learned update, cut to its first directions and scaled")


def pairs(frame: pd.DataFrame) -> Any:
    """For the chosen task, first method and seed: each partner alone (ring) and together with the first (disc)."""
    alone = frame[frame["second"] == "none"].set_index(["task", "first", "seed"])["ensemble"]
    part = frame[(frame["second"] != "none") & (frame["second"] != frame["first"])].dropna(subset="ensemble")

    def own(column: str) -> list[float | None]:
        keys = part[["task", column, "seed"]].itertuples(index=False, name=None)
        return [None if pd.isna(value) else float(value) for value in (alone.get(key) for key in keys)]

    columns = part[["task", "first", "second", "seed"]].assign(partner=part["second"].map(title))
    shown = columns.assign(together=part["ensemble"].round(2), alone=own("second"), first_alone=own("first")).dropna()
    shown = shown.round({"alone": 2, "first_alone": 2})
    base = alt.Chart(shown).transform_filter(_is("task", "first", "seed"))
    of = list(dict.fromkeys(shown["second"]))
    y = alt.Y("partner:N", title=None, sort=[title(m) for m in of])
    scale = alt.Scale(zero=False)
    colour = alt.condition(_is("second"), alt.Color("partner:N", scale=_by_title(of), legend=None), alt.value(GREY))
    line = base.mark_rule(color=INK, strokeDash=[4, 3]).encode(x=alt.X("mean(first_alone):Q"))
    link = base.mark_rule(color=PALE).encode(
        x=alt.X("alone:Q", scale=scale, title="test accuracy (%)"), x2="together:Q", y=y
    )
    ring = base.mark_point(size=50, opacity=1).encode(x=alt.X("alone:Q", scale=scale), y=y, color=colour)
    disc = base.mark_point(size=70, filled=True, opacity=1).encode(x="together:Q", y=y, color=colour)
    message = (
        "What each partner adds to the first method: ring alone, disc together, dashed line the first method alone"
    )
    return _sized(line + link + ring + disc, 360, message)


def alphas(frame: pd.DataFrame) -> Any:
    """Target accuracy against the mean of the shifts, a curve over alpha for each method; the chosen one in colour."""
    of = list(dict.fromkeys(frame["method"]))
    shown = frame.assign(title=frame["method"].map(title))
    base = alt.Chart(shown)
    x = alt.X("target:Q", title="accuracy on the target (%)", scale=alt.Scale(zero=False))
    y = alt.Y("shift:Q", title="mean accuracy of the shifts (%)", scale=alt.Scale(zero=False))
    colour = alt.Color("title:N", scale=_by_title(of), legend=None)
    others = base.mark_line(color=PALE, strokeWidth=1.2).encode(x=x, y=y, detail="title:N", order="alpha:Q")
    chosen = base.transform_filter(_is("method"))
    line = chosen.mark_line(strokeWidth=2.5).encode(x=x, y=y, order="alpha:Q", color=colour)
    steps = chosen.mark_point(size=25, filled=True, opacity=1).encode(x=x, y=y, color=colour)
    here = base.transform_filter(_is("method", "alpha")).mark_point(size=200, filled=True, opacity=1, stroke=INK)
    start = base.transform_filter("datum.alpha === 0").mark_point(
        shape="diamond", size=90, filled=True, color=INK, opacity=1
    )
    layers = others + line + steps + start.encode(x=x, y=y) + here.encode(x=x, y=y, color=colour)
    return _sized(layers, 340, "From zero-shot (diamond) to tuned: a curve of weight-space ensembles for each method")


def choices(candidates: pd.DataFrame) -> Any:
    """A chart of the method chooser; ``candidates``: task (its kind), method, params, accuracy of every method."""

    def chart(frame: pd.DataFrame) -> Any:
        of = list(dict.fromkeys(candidates["method"]))
        every = candidates.assign(title=candidates["method"].map(title), at=candidates["params"].clip(lower=NOTHING))
        base = alt.Chart(every.round({"accuracy": 2})).transform_filter(_is("task"))
        scale = alt.Scale(type="log", domain=[NOTHING, 1.4 * float(every["at"].max())], nice=False)
        x = alt.X("at:Q", scale=scale, axis=DECADES, title="trained parameters, head not counted")
        y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), title="test accuracy (%)")
        dots = base.mark_point(size=70, filled=True, opacity=1).encode(
            x=x, y=y, color=alt.Color("title:N", scale=_by_title(of), legend=None), tooltip=["title:N", "accuracy:Q"]
        )
        picked = frame.dropna(subset="trained").rename(columns={"accuracy (%)": "accuracy"}).round({"accuracy": 2})
        picked = picked.assign(at=picked["trained"].clip(lower=NOTHING))
        columns = ["task", "matters", "parameters", "give_up", "method", "at", "accuracy"]
        one = alt.Chart(picked[columns]).transform_filter(_is("task", "matters", "parameters", "give_up"))
        ring = one.mark_point(size=330, stroke=INK, strokeWidth=2, opacity=1).encode(x=x, y=y)
        name = one.mark_text(dy=-17, fontSize=12, fontWeight="bold", color=INK).encode(x=x, y=y, text="method:N")
        limits = [
            {"parameters": value, "limit": float(value.replace(",", ""))}
            for value in set(frame["parameters"]) - {"any"}
        ]
        limit = alt.Chart(pd.DataFrame(sorted(limits, key=lambda row: row["limit"]))).transform_filter(
            _is("parameters")
        )
        wall = limit.mark_rule(color="#d55e00", strokeDash=[5, 4]).encode(x=alt.X("limit:Q", scale=scale))
        return _sized(
            wall + dots + ring + name,
            340,
            "The method that fits your constraints is ringed; those that train the head alone stand at the left edge",
        )

    return chart
