"""How far methods lie apart, with and without tuning, and which are clearly above a baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from petl_core.study.statistics import Interval
from petl_guide.accuracy import MEAN, by_group, scores
from petl_guide.runs import common, peft

FEWEST_TASKS = 5  # for a bootstrap over tasks


def deviations(scores: pd.DataFrame, draws: int = 2000) -> tuple[float, np.ndarray]:
    """The standard deviation between methods (columns) of their means over tasks (rows), and the same of ``draws``
    resamples of the tasks (always the same ones for as many tasks)."""
    values = scores.to_numpy()
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    return float(values.mean(axis=0).std(ddof=1)), values[picks].mean(axis=1).std(axis=1, ddof=1)


def spread_change(before: pd.DataFrame, after: pd.DataFrame) -> tuple[float, float, Interval]:
    """The ``deviations`` of two sets of runs on their common cells, and the change from the first to the second.

    The interval of the change is a bootstrap over tasks; with fewer than ``FEWEST_TASKS`` its ends are NaN.
    """
    tables = [scores(part) for part in common(before, after)]
    (first, drawn_first), (second, drawn_second) = (deviations(table) for table in tables)
    low = high = float("nan")
    if len(tables[0]) >= FEWEST_TASKS:
        low, high = (float(end) for end in np.quantile(drawn_second - drawn_first, [0.025, 0.975]))
    return first, second, Interval(second - first, low, high, len(tables[0]))


def against(tuned: pd.DataFrame, baseline: str) -> tuple[list[str], list[str]]:
    """The PEFT methods whose mean of groups is clearly above, and clearly below, a baseline: intervals do not meet."""
    table = by_group(tuned)
    table = table[table["group"] == MEAN].set_index("method")
    names, base = peft(table.index), table.loc[baseline]
    above = [m for m in names if table.loc[m, "low"] > base["high"]]
    return above, [m for m in names if table.loc[m, "high"] < base["low"]]
