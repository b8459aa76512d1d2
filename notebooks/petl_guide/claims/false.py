"""Our records changed so that a claim cannot be true: a check that supports it all the same proves nothing.

A change takes the table of records and a random generator, and returns a copy with other values in one column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class FalseCase:
    """What was done to the records, in words, and the function that does it."""

    what: str
    change: Change


def _final(table: pd.DataFrame, variant: str) -> pd.Series:
    """Which rows are final runs of this variant."""
    return (table["variant"] == variant) & (table["stage"] == "final")


def exchanged(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The names of the methods of each task and seed drawn by lot among its tuned runs: methods mean nothing."""
    table = table.copy()
    for _, rows in table[_final(table, "tuned")].groupby(["task", "seed"]):
        table.loc[rows.index, "method"] = random.permutation(rows["method"].to_numpy())
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
    """Full fine-tuning in the part "mechanism", held back or not."""
    part = table["variant"].str.startswith("mechanism") & (table["stage"] == "final")
    return part & (table["method"] == "full")


LOT = FalseCase("names of methods drawn by lot", exchanged)
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
