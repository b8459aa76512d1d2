"""What the checks on our records start from: tuned runs of the study's methods, their noise, and the two controls.

*Edges* (T): the chosen learning rate should be inside those tried, on three tasks of four. *Length* (U): trained twice
as long, at rates tuned for that, a method should gain little, and about what full fine-tuning gains. The noise of a
difference of two tuned methods on a task is v = 2 (s_seed² / n + s_choice²), with n seeds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from petl_core.utils import UserError
from petl_guide import published
from petl_guide import runs as select
from petl_guide.accuracy import scores
from petl_guide.claims.measures import MOST_AT_ENDS
from petl_guide.results import SHIPPED, Results, open_results
from petl_guide.verdict import Control

MOST_GAIN = 1.5  # points, by twice the epochs
ALL_BUT = 2  # methods whose controls may fail where many are compared
IN_PLACE = "lora"  # whose longer runs stand for a method that has none
CELL = ["task", "method"]


def chosen(finals: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each task and method of these final runs: lr, params, ``val`` (validation accuracy of the chosen
    trial), ``edge`` (is its rate the lowest or highest tried?) and ``gained``: where it is, the points that it has over
    the best of the other rates, NaN without any; else 0.

    ``UserError`` naming a cell whose trial is missing.
    """
    rows = select.validated(finals.drop_duplicates(CELL), trials)
    if rows["val"].isna().any():
        row = rows[rows["val"].isna()].iloc[0]
        raise UserError(f"the trial that chose {row['method']} on {row['task']} has no record; run the study again")
    rates = {key: part.groupby("lr")["accuracy"].max() for key, part in trials.groupby(CELL)}
    edges, gained = [], []
    for _, row in rows.iterrows():
        mine = rates[tuple(row[CELL])]
        others = mine.drop(row["lr"])
        edges.append(row["lr"] in (mine.index.min(), mine.index.max()))
        gained.append(max(0.0, row["val"] - others.max()) if len(others.dropna()) else math.nan)
    inside = ~np.array(edges)
    rows = rows.assign(edge=edges, gained=np.where(inside, 0.0, gained))
    return rows.set_index(CELL)[["lr", "params", "val", "edge", "gained"]]


@dataclass(frozen=True)
class Study:
    """The runs of some records that are of the study's methods, and what the checks need of them."""

    results: Results

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        table = self.results.table
        return table[table["method"].isin(published.studied(table["method"]))]

    @functools.cached_property
    def runs(self) -> pd.DataFrame:
        """The tuned final runs. ``UserError`` where one is missing."""
        return select.runs(self.table, "tuned")

    @functools.cached_property
    def scores(self) -> pd.DataFrame:
        """Tasks x methods."""
        return scores(self.runs)

    @property
    def peft(self) -> pd.DataFrame:
        """``scores`` of the PEFT methods."""
        names = select.peft(self.scores)
        if len(names) < 2:
            raise UserError(f"PEFT methods are compared, and there are {len(names)}; run the part 'tuned' of more")
        return self.scores[names]

    def score(self, method: str) -> pd.Series:
        """The accuracies of one method on each task; ``UserError`` where it was not run."""
        if method not in self.scores:
            raise UserError(f"{method} is compared in this check, and there are no tuned runs of it")
        return self.scores[method]

    @property
    def seeds(self) -> list[int]:
        return sorted(set(self.runs["seed"]))

    @functools.cached_property
    def choices(self) -> pd.DataFrame:
        """``chosen`` of the tuned runs."""
        trials = self.table[(self.table["variant"] == "trial") & (self.table["stage"] == "trial")]
        return chosen(self.runs, trials)

    # noise

    @functools.cached_property
    def seed_noise(self) -> float:
        """The deviation of one run: between seeds, the median over cells. Without a second seed there is none: 0."""
        spread = float(self.runs.groupby(CELL)["accuracy"].std(ddof=1).median())
        return 0.0 if math.isnan(spread) else spread

    @functools.cached_property
    def choice_noise(self) -> tuple[float, str]:
        """The deviation that choosing adds to a mean of seeds, from repeats of the protocol, and whose it is.

        Over a cell's repeats, the protocol itself among them, the means of seeds vary; of the mean of these variances
        s_seed² / n is the seeds'. Without repeats the embedded backbone's deviation is taken, or 0.
        """
        names = [name for name in self.table["variant"].unique() if str(name).startswith("repeat_")]
        finals = self.table[self.table["variant"].isin(["tuned", *names]) & (self.table["stage"] == "final")]
        again = select.at_chance(finals).groupby([*CELL, "variant"])["accuracy"].mean().unstack().dropna()
        if names and len(again):
            square = float(again.var(axis=1, ddof=1).mean()) - self.seed_noise**2 / len(self.seeds)
            return math.sqrt(max(0.0, square)), "its own repeats"
        if self.results.embedded:
            return 0.0, "no repeats, so taken as 0"
        value, whose = Study(open_results(SHIPPED)).choice_noise
        return value, "the small backbone's repeats" if value else whose

    @property
    def cell_noise(self) -> float:
        """The deviation of a method's accuracy on a task."""
        return math.sqrt(self.seed_noise**2 / len(self.seeds) + self.choice_noise[0] ** 2)

    @property
    def variances(self) -> dict[str, float]:
        """v for each task."""
        return {str(task): 2 * self.cell_noise**2 for task in self.scores.index}

    @property
    def noise_told(self) -> str:
        value, whose = self.choice_noise
        return f"seeds deviate by {self.seed_noise:.2f}, choices by {value:.2f} ({whose})"

    # controls

    def edges(self, method: str) -> Control:
        """T: the share of the method's tasks whose chosen rate is the lowest or highest tried."""
        share = 100 * float(self.choices["edge"].xs(method, level="method").mean())
        return Control(f"{method}'s rate at an end, % of tasks", share, MOST_AT_ENDS, share <= MOST_AT_ENDS)

    @functools.cached_property
    def gains(self) -> pd.Series:
        """Mean gain of each method by twice the epochs, tuned again; empty without such runs."""
        if not (self.table["variant"] == "longer_trial").any():
            return pd.Series(dtype=float)
        kinds = self.table[self.table["variant"].isin(["tuned", "longer"]) & (self.table["stage"] == "final")]
        wide = select.at_chance(kinds).pivot(index=[*CELL, "seed"], columns="variant", values="accuracy").dropna()
        return (wide["longer"] - wide["tuned"]).groupby(CELL).mean().groupby("method").mean()

    def length(self, method: str) -> tuple[Control, ...]:
        """U: what twice the epochs gain, and that less what full fine-tuning gains."""
        if self.gains.empty:
            return (Control("gain by twice the epochs", math.nan, MOST_GAIN, passes=False),)
        mine = method if method in self.gains else IN_PLACE
        whose = "" if mine == method else f", by {mine}"
        gain = float(self.gains.get(mine, math.nan))
        more = gain - float(self.gains.get("full", math.nan))
        name = f"{method}'s gain by twice the epochs{whose}"
        return (
            Control(name, gain, MOST_GAIN, gain <= MOST_GAIN),
            Control(f"{name}, less full's", more, MOST_GAIN, abs(more) <= MOST_GAIN),
        )

    def sound(self, method: str) -> tuple[Control, ...]:
        """T and U of one method."""
        return (self.edges(method), *self.length(method))

    def baseline(self, method: str) -> tuple[tuple[Control, ...], dict[str, float]]:
        """T and U of a baseline; where T fails and there were two rates or more, its handicap for each task instead."""
        edges, gained = self.edges(method), self.choices["gained"].xs(method, level="method")
        if edges.passes or gained.isna().any():
            return self.sound(method), {}
        met = replace(edges, handicapped=True)
        return (met, *self.length(method)), {str(task): float(points) for task, points in gained.items()}

    def nearly_all(self, methods: Sequence[str], *, length: bool = True) -> tuple[Control, ...]:
        """T, and T and U together, of all these methods but two."""
        ends = [name for name in methods if not self.edges(name).passes]
        found = [_at_most_two("rates at an end", ends)]
        if length and self.gains.empty:
            found += self.length(IN_PLACE)
        elif length:
            either = [name for name in methods if not all(control.passes for control in self.sound(name))]
            found.append(_at_most_two("rates at an end or short runs", either))
        return tuple(found)


def _at_most_two(what: str, methods: Sequence[str]) -> Control:
    name = f"methods with {what} ({', '.join(methods) or 'none'})"
    return Control(name, len(methods), ALL_BUT, len(methods) <= ALL_BUT)
