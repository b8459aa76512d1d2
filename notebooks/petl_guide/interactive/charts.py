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


def sites(frame: pd.DataFrame) -> Any:
    """The way from images to logits, downwards: operations as boxes, sites as dots, the chosen one filled."""
    number = dict(
        zip(frame["site"], frame["methods"].map(lambda m: 0 if m == "none" else m.count(",") + 1), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for place, s in enumerate(STATIONS):
        count = number.get(s.name, 0) if s.kind == "site" else 0
        acting = f"{count} method{'s' * (count != 1)}" if count else ""
        rows.append(
            {"y": place, "kind": s.kind, "site": s.name, "label": s.label, "block": s.in_block, "acting": acting}
        )
    stations = pd.DataFrame(rows)
    inside = stations[stations["block"]]["y"]
    block = pd.DataFrame([{"top": inside.min() - 0.5, "end": inside.max() + 0.5, "left": 0, "right": 10}])
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.7, len(STATIONS) - 0.3], reverse=True, nice=False))
    x_scale = alt.Scale(domain=[0, 10])
    frame_ = (
        alt.Chart(block)
        .mark_rect(color="#f1f3f4", cornerRadius=6)
        .encode(x=alt.X("left:Q", scale=x_scale, axis=None), x2="right:Q", y=alt.Y("top:Q", axis=None), y2="end:Q")
    )
    wire = alt.Chart(stations).mark_line(color=INK, strokeWidth=1).encode(x=alt.datum(3.0, type="quantitative"), y=y)
    every = alt.Chart(stations)

    def words(kind: str, at: float, field: str = "label", **how: Any) -> Any:
        return (
            every.transform_filter(f"datum.kind === '{kind}'")
            .mark_text(**{"fontSize": 11, "color": INK, **how})
            .encode(x=alt.datum(at, type="quantitative"), y=y, text=field)
        )

    boxes = (
        every.transform_filter("datum.kind === 'box'")
        .mark_point(shape="square", size=130, fill="#dadce0", stroke=INK, strokeWidth=0.8, opacity=1)
        .encode(x=alt.datum(3.0, type="quantitative"), y=y)
    )
    pluses = (
        every.transform_filter("datum.kind === 'plus'")
        .mark_point(shape="circle", size=150, fill="white", stroke=INK, strokeWidth=1, opacity=1)
        .encode(x=alt.datum(3.0, type="quantitative"), y=y)
    )
    fill = alt.condition(_is("site"), alt.value("#d55e00"), alt.value("white"))
    dots = (
        every.transform_filter("datum.kind === 'site'")
        .mark_point(size=110, stroke=INK, strokeWidth=1, opacity=1)
        .encode(x=alt.datum(3.0, type="quantitative"), y=y, fill=fill)
    )
    here = (
        every.transform_filter(f"datum.kind === 'site' && {_is('site')}")
        .mark_text(align="left", fontSize=12, fontWeight="bold", color="#a84300")
        .encode(x=alt.datum(3.5, type="quantitative"), y=y, text="label")
    )
    names_ = words("box", 2.6, align="right", color="#5f6368"), words("site", 3.5, align="left"), words("plus", 3.0)
    acting = words("site", 7.0, "acting", align="left", color="#5f6368")
    layers = alt.layer(frame_, wire, boxes, pluses, dots, names_[0], names_[2], _hide(names_[1]), here, acting)
    return _sized(layers, 17 * len(STATIONS), "From images to logits: operations (squares) and sites (dots)")


def _hide(layer: Any) -> Any:
    """The layer without the chosen site, which another one draws in bold."""
    return layer.transform_filter(f"!({_is('site')})")


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
