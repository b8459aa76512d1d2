"""Our records changed so that a claim cannot be true: a check that supports it all the same proves nothing.

A change takes the table of records and a random generator, and returns a copy with other values in one column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from petl_guide.runs import peft

Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class FalseCase:
    """What was done to the records, in words, and the function that does it."""

    what: str
    change: Change


CONTENTS = ["digest", "accuracy", "train_accuracy"]  # of a run: what it came to


def _final(table: pd.DataFrame, *variants: str) -> pd.Series:
    """Which rows are final runs of these variants."""
    return table["variant"].isin(variants) & (table["stage"] == "final")


def exchanged(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """What the tuned runs of each task and seed came to, exchanged by lot between methods: methods mean nothing."""
    table = table.copy()
    for _, rows in table[_final(table, "tuned")].groupby(["task", "seed"]):
        table.loc[rows.index, CONTENTS] = rows.iloc[random.permutation(len(rows))][CONTENTS].to_numpy()
    return table


def exchanged_at_resolutions(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The resolution of what a seed of a method came to, drawn by lot."""
    table = table.copy()
    high = set(table.loc[_final(table, "resolution_224"), "task"])
    pairs = table[_final(table, "tuned", "resolution_224") & table["task"].isin(high)]
    for _, rows in pairs.groupby(["task", "method", "seed"]):
        if random.random() < 0.5:
            table.loc[rows.index, CONTENTS] = rows.iloc[::-1][CONTENTS].to_numpy()
    return table


def exchanged_in_world(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """What runs under shift came to, exchanged by lot between full fine-tuning and PEFT within each seed: the lowest
    rate of one method for the lowest of another, and so on, and so its chosen rate."""
    table = table.copy()
    mine = table[_final(table, "robustness", "robustness_chosen") & (table["method"] != "linear")]
    for _, of_seed in mine.groupby("seed"):
        names = sorted(set(of_seed["method"]))
        lot = dict(zip(names, random.permutation(names), strict=True))
        for _, rows in of_seed.sort_values("lr").groupby("variant"):
            by = {name: part.index for name, part in rows.groupby("method")}
            for name, other in lot.items():
                both = list(zip(by[name], by[other], strict=False))
                for to, source in both:
                    table.loc[to, CONTENTS] = mine.loc[source, CONTENTS]
    return table


def one_answer(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """On each task every PEFT method came to what one of them did, drawn by lot, with the same seed."""
    table = table.copy()
    tuned = table[_final(table, "tuned") & table["method"].isin(peft(table["method"]))]
    for _, rows in tuned.groupby("task"):
        one = rows[rows["method"] == random.choice(sorted(set(rows["method"])))].set_index("seed")
        table.loc[rows.index, CONTENTS] = one.loc[rows["seed"], CONTENTS].to_numpy()
    return table


def pushed_apart(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Each method's accuracy moved by its place in an order drawn by lot, ten points a place."""
    mine = _final(table, "tuned")
    names = sorted(set(table.loc[mine, "method"]))
    place = dict(zip(names, random.permutation(len(names)), strict=True))
    more = 10.0 * table["method"].map(place)
    return table.assign(accuracy=table["accuracy"].where(~mine, table["accuracy"] + more))


def switched(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Which of a pair of runs had drop path, drawn by lot."""
    table = table.copy()
    pairs = table[table["variant"].str.match(r"drop_path_[\d.]+$") & (table["stage"] == "final")]
    for _, rows in pairs.groupby(["task", "method", "seed"]):
        if random.random() < 0.5:
            table.loc[rows.index, "variant"] = rows["variant"].to_numpy()[::-1]
    return table


def _lowered(points: float, which: Callable[[pd.DataFrame], pd.Series]) -> Change:
    """The change that takes so many points from the accuracy of these runs."""

    def change(table: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
        return table.assign(accuracy=table["accuracy"] - points * which(table))

    return change


def _full_of_mechanism(table: pd.DataFrame) -> pd.Series:
    """Full fine-tuning where weights are held back, or not, and their movement is measured."""
    part = table["variant"].str.startswith(("mechanism", "held_back")) & (table["stage"] == "final")
    return part & (table["method"] == "full")


LOT = FalseCase("results of methods drawn by lot", exchanged)
LOT_AT_RESOLUTIONS = FalseCase("resolutions drawn by lot", exchanged_at_resolutions)
WORLD_BY_LOT = FalseCase("results of PEFT and full fine-tuning exchanged by lot", exchanged_in_world)
ONE_ANSWER = FalseCase("one method's answers given to all", one_answer)
APART = FalseCase("methods pushed ten points apart", pushed_apart)
DROP_PATH_BY_LOT = FalseCase("drop path drawn by lot", switched)
BITFIT_LOWER = FalseCase(
    "BitFit ten points lower", _lowered(10.0, lambda table: _final(table, "tuned") & (table["method"] == "bitfit"))
)
SMALL_LOWER = FalseCase(
    "small methods ten points lower",
    _lowered(10.0, lambda table: _final(table, "many_shot") & (table["method"] != "full")),
)
FULL_FAR_BEHIND = FalseCase("full fine-tuning far behind, held back or not", _lowered(40.0, _full_of_mechanism))
