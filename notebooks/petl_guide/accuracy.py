"""Accuracy by task, by group and by method, with intervals over seeds.

The intervals are for the mean over all seeds that might have been drawn; a single further run may well lie outside.
They hold the tasks and the test images fixed, so they do not say what other tasks, or other test images, would give.
In percent, as all accuracies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.study.statistics import Interval, interval
from petl_core.utils import UserError
from petl_guide.runs import grid, group_order

MEAN = "mean of groups"  # the name of the overall figure: each group counts once, as VTAB does


def interval_over(frame: pd.DataFrame, by: str, column: str) -> Interval:
    """The mean of a column with its t interval over the means of groups: of seeds, or of methods."""
    return interval(frame.groupby(by)[column].mean().to_numpy())


def intervals(frame: pd.DataFrame, by: list[str], column: str, level: float = 0.95) -> pd.DataFrame:
    """The mean of a column in each group of rows, with its t interval: columns ``by``, mean, low, high, n."""
    groups = frame.groupby(by)[column]
    rows = [(*key, *dataclasses.astuple(interval(values.to_numpy(), level))) for key, values in groups]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])


def stratified_bootstrap(
    values: Sequence[Sequence[float] | np.ndarray], level: float = 0.95, draws: int = 10_000
) -> Interval:
    """The mean over strata (tasks) of their means, with percentiles of resamples drawn *within* each stratum.

    ``values``: for each task its runs' numbers, one for each seed. Resampling within tasks keeps every task in every
    draw, so that differences between tasks do not widen the interval (Agarwal et al., 2021, arXiv 2108.13264). With
    n runs a task the deviation of a draw is too small by sqrt((n - 1) / n): with three seeds, read it as a lower bound.
    """
    arrays = [np.asarray(one, dtype=float) for one in values]
    if not arrays or any(one.ndim != 1 or not len(one) or not np.isfinite(one).all() for one in arrays):
        raise UserError("a stratified bootstrap needs a list of finite numbers for each stratum, none of them empty")
    if not 0 < level < 1:
        raise UserError(f"the level of an interval is {level}; it must lie between 0 and 1, for example 0.95")
    random = np.random.default_rng(0)
    means = np.zeros(draws)
    for one in arrays:
        means += one[random.integers(0, len(one), (draws, len(one)))].mean(axis=1) / len(arrays)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(np.mean([one.mean() for one in arrays])), float(low), float(high), len(arrays))


def by_task(runs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row for each task and method: group, mean, sd over seeds, low and high of the t interval, n seeds."""
    runs, cell = grid(runs), ["group", "task", "method"]
    table = intervals(runs, cell, "accuracy", level)
    table.insert(4, "sd", runs.groupby(cell)["accuracy"].std(ddof=1).to_numpy())
    return table


def by_group(runs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row for each group and method, and for ``MEAN``, the unweighted mean of the groups: mean, low, high, tasks.

    The mean is sum_t w_t m_t over tasks t, with m_t the mean of n seeds. Runs of different tasks are independent, so
    its variance is sum_t w_t² s_t² / n, with s_t the deviation between seeds; the interval is Student's, with the
    degrees of freedom of Welch and Satterthwaite: (sum_t v_t)² / sum_t (v_t² / (n - 1)), v_t = w_t² s_t² / n.
    """
    runs = grid(runs)
    groups = group_order(runs["group"])
    sizes = runs.groupby("group")["task"].nunique()
    weights = {g: dict.fromkeys(set(runs.loc[runs["group"] == g, "task"]), 1 / sizes[g]) for g in groups}
    weights[MEAN] = {task: w / len(groups) for g in groups for task, w in weights[g].items()}
    rows = []
    for name, of_task in weights.items():
        for method, cells in runs[runs["task"].isin(of_task)].groupby("method"):
            by = cells.groupby("task")["accuracy"]
            w = np.array([of_task[task] for task in by.mean().index])
            rows.append(
                (name, method, *_weighted(by.mean().to_numpy(), by.var(ddof=1).to_numpy(), w, by.size(), level))
            )
    return pd.DataFrame(rows, columns=["group", "method", "mean", "low", "high", "tasks"])


def _weighted(
    means: np.ndarray, variances: np.ndarray, weights: np.ndarray, sizes: pd.Series, level: float
) -> tuple[float, float, float, int]:
    mean, n = float(weights @ means), int(sizes.iloc[0])
    if n == 1:
        return mean, math.nan, math.nan, len(means)
    parts = weights**2 * variances / n
    if not parts.any():
        return mean, mean, mean, len(means)
    freedom = parts.sum() ** 2 / (parts**2 / (n - 1)).sum()
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(parts.sum())
    return mean, mean - half, mean + half, len(means)


def scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Tasks x methods: the mean accuracy over seeds; what rank tests read."""
    return grid(runs).pivot_table(index="task", columns="method", values="accuracy", aggfunc="mean")


def order(runs: pd.DataFrame) -> list[str]:
    """The methods from the best to the worst ``MEAN``."""
    table = by_group(runs)
    overall = table[table["group"] == MEAN]
    return overall.sort_values(["mean", "method"], ascending=[False, True])["method"].tolist()


def spread(runs: pd.DataFrame) -> pd.DataFrame:
    """For each group and ``MEAN``: mean, sd and range over methods, and relative standard deviation, 100 sd / mean.

    The study's measure of "similar" (there with sd of n - 1). Leave baselines out of ``runs`` if they are not meant.
    """
    table = by_group(runs)
    rows = []
    for group in dict.fromkeys(table["group"]):
        means = table.loc[table["group"] == group, "mean"].to_numpy()
        if len(means) < 2:
            raise UserError(f"a spread between methods needs two methods or more; there are {len(means)}")
        sd = float(means.std(ddof=1))
        rows.append((group, float(means.mean()), sd, float(np.ptp(means)), 100 * sd / float(means.mean()), len(means)))
    return pd.DataFrame(rows, columns=["group", "mean", "sd", "range", "relative", "methods"])


def pareto(accuracy: Sequence[float] | np.ndarray, cost: Sequence[float] | np.ndarray) -> list[int]:
    """Positions of the points that no other beats, by cost. A point beats another if it is no less accurate and no more
    costly, and better in one of both; so equal points all stay."""
    gain, price = np.asarray(accuracy, dtype=float), np.asarray(cost, dtype=float)
    if gain.shape != price.shape or gain.ndim != 1 or not np.isfinite([gain, price]).all():
        raise UserError(f"a Pareto front needs as many finite accuracies as costs; got {gain.shape} and {price.shape}")
    no_worse = (gain >= gain[:, None]) & (price <= price[:, None])  # [i, j]: is j no worse than i?
    better = (gain > gain[:, None]) | (price < price[:, None])
    beaten = np.asarray((no_worse & better).any(axis=1))
    return [int(i) for i in np.lexsort((gain, price)) if not beaten[i]]
