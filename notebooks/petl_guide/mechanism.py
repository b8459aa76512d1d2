"""Why PEFT works: training against test accuracy, how far features and weights move, and full fine-tuning held back.

The kinds compared are methods and, for full fine-tuning, the ways of ``profile.HELD_BACK``: "full + L2-SP" and
"full + layer-wise rates", of one strength or of the better of several. A *setting* is one task with one number of
training images.
"""

from __future__ import annotations

import pandas as pd

from petl_core.study.profile import HELD_BACK
from petl_core.study.records import Records
from petl_core.study.statistics import Interval, interval
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.accuracy import interval_over, intervals

WAYS = {"l2_sp": "full + L2-SP", "layer_decay": "full + layer-wise rates"}
KINDS = {
    "mechanism": "",
    **{f"mechanism_{way}": name for way, name in WAYS.items()},
    **{f"held_back_{way}_{value:g}": f"{WAYS[way]} {value:g}" for way in WAYS for value in HELD_BACK[way]},
}
TRIALS = ("mechanism_trial", "held_back_trial")
SETTING = ["task", "images"]
HELD = tuple(name for name in KINDS.values() if name)


def small(found: pd.DataFrame) -> list[str]:
    """The PEFT methods among the kinds."""
    return [kind for kind in select.peft(found["kind"]) if kind not in HELD]


def held(found: pd.DataFrame) -> list[str]:
    """The ways of holding full fine-tuning back among the kinds."""
    return [kind for kind in HELD if kind in set(found["kind"])]


def runs(table: pd.DataFrame, records: Records) -> pd.DataFrame:
    """One row a run: task, group, images, kind, seed, val (of the trial that chose it, NaN without), test, train, gap
    (train - test), features (how far what the head reads moved, relative), weights (mean over blocks, NaN where the
    method cannot be folded), steps by block.

    Raises ``UserError`` if the part was not run, a measurement is missing, or a kind lacks a seed in a setting.
    """
    finals = table[table["variant"].isin(list(KINDS)) & (table["stage"] == "final")]
    finals = select.validated(finals, table[table["variant"].isin(TRIALS)])
    mine = select.at_chance(select.of_part(finals, "mechanism", KINDS))
    moved = [select.measured(records, row, "displacement") for row in mine.itertuples()]
    found = mine[["task", "group", "images", "seed", "lr", "val"]].assign(
        kind=[KINDS[row.variant] or row.method for row in mine.itertuples()],
        test=mine["accuracy"],
        train=mine["train_accuracy"],
        gap=mine["train_accuracy"] - mine["accuracy"],
        features=[moves["features"][-1] for moves in moved],
        weights=[_mean(moves["weights"]) for moves in moved],
        by_block=[moves["features"] for moves in moved],
    )
    select.check_seeds(found, [*SETTING, "kind"])
    return found.sort_values([*SETTING, "kind", "seed"], ignore_index=True)


def _mean(values: list[float] | None) -> float:
    """NaN where there are none."""
    return float("nan") if values is None else sum(values) / len(values)


def means(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting and kind: group, mean test, train, gap, features, weights, and low and high of test."""
    cell = [*SETTING, "kind"]
    ends = intervals(found, cell, "test")[[*cell, "low", "high"]]
    by = found.groupby(cell)
    means = by[["test", "train", "gap", "features", "weights"]].mean()
    return by[["group"]].first().join(means).reset_index().merge(ends, on=cell)


def _mean_of(found: pd.DataFrame, kinds: list[str], column: str) -> pd.Series:
    """The mean over these kinds, indexed by task, images and seed."""
    part = found[found["kind"].isin(kinds)]
    if part.empty:
        raise UserError(f"there are no runs of {', '.join(kinds)} in these records")
    return part.groupby([*SETTING, "seed"])[column].mean()


def _from_full(found: pd.DataFrame, column: str) -> pd.Series:
    """Mean of the PEFT methods minus full fine-tuning, indexed by task, images and seed."""
    return _mean_of(found, small(found), column) - _mean_of(found, ["full"], column)


def lead(found: pd.DataFrame) -> pd.Series:
    """For each setting, mean of the PEFT methods minus full fine-tuning, test accuracy in points."""
    return _from_full(found, "test").groupby(SETTING).mean()


def ahead(found: pd.DataFrame) -> pd.Series:
    """``lead`` where its interval over seeds lies above zero: settings in which PEFT has an advantage to explain."""
    by_setting = _from_full(found, "test").groupby(SETTING)
    return lead(found).loc[[key for key, part in by_setting if interval(part.to_numpy()).low > 0]]


def train_gap(found: pd.DataFrame) -> Interval:
    """Gap between training and test accuracy, PEFT methods minus full, mean of all settings, interval over seeds."""
    return interval_over(_from_full(found, "gap").reset_index(), "seed", "gap")


def held_back(found: pd.DataFrame) -> pd.DataFrame:
    """Each way of holding back minus plain full fine-tuning, by setting: difference of test accuracy and its interval,
    and of movement (features)."""
    tables = []
    keyed = found.set_index(["kind", *SETTING, "seed"])[["test", "features"]]
    for kind in held(found):
        apart = (keyed.loc[kind] - keyed.loc["full"]).reset_index()
        less = apart.groupby(SETTING)["features"].mean().reset_index()
        tables.append(intervals(apart, SETTING, "test").merge(less, on=SETTING).assign(kind=kind))
    table = pd.concat(tables, ignore_index=True).rename(columns={"mean": "difference"})
    return table[[*SETTING, "kind", "difference", "low", "high", "features"]]
