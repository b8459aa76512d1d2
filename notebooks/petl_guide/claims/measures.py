"""Measures that the checks on published numbers and on our records share: pure functions of tables of accuracies.

A table has a row for each task and a column for each method; accuracies are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.utils import UserError
from petl_guide.verdict import Estimate, Evidence, half_intervals

MARGIN = 2.0  # points
MOST_AT_ENDS = 25.0  # per cent of a method's tasks whose chosen learning rate is the lowest or highest tried
HEADROOM = 3.0  # points above linear probing that the best method should reach for a task to show a difference
FEWEST = (3, 2)  # tasks and methods, for a spread between methods


def _checked(scores: pd.DataFrame) -> np.ndarray:
    array = scores.to_numpy(dtype=float)
    if not np.isfinite(array).all():
        raise UserError("a method has no accuracy on some task; compare methods on the tasks that all of them have")
    if array.shape[0] < FEWEST[0] or array.shape[1] < FEWEST[1]:
        raise UserError(f"methods are compared over {FEWEST[0]} tasks and {FEWEST[1]} methods or more: {array.shape}")
    return array


def spread(array: np.ndarray) -> float:
    """The mean squared difference of two methods' means that tasks like these would show: rho^2 = 2 max(0, s^2 - MS/n).

    s^2: variance over methods of means over the n tasks; MS: mean square of method x task. (n, methods) -> points^2.
    """
    n, methods = array.shape
    rest = array - array.mean(axis=0) - array.mean(axis=1, keepdims=True) + array.mean()
    square = float((rest**2).sum()) / ((n - 1) * (methods - 1))
    return 2 * max(0.0, float(array.mean(axis=0).var(ddof=1)) - square / n)


def rho(scores: pd.DataFrame) -> Estimate:
    """The root mean square difference of two methods' means, in points, with a jackknife over tasks of log(1 + rho^2).

    Needs 3 tasks and 2 methods.
    """
    array = _checked(scores)
    n = len(array)
    whole = math.log1p(spread(array))
    without = np.array([math.log1p(spread(np.delete(array, task, axis=0))) for task in range(n)])
    error = float((n * whole - (n - 1) * without).std(ddof=1)) / math.sqrt(n)

    def back(value: float) -> float:
        return math.sqrt(max(0.0, math.expm1(value)))

    wide, narrow = half_intervals(error, n - 1)
    ends = (back(whole - wide), back(whole + wide), back(whole - narrow), back(whole + narrow))
    return Estimate(back(whole), *ends, n=n)


def similar_means(scores: pd.DataFrame) -> Evidence:
    """C1a without its controls: ``rho`` of the methods."""
    return Evidence(kind="alike", margin=MARGIN, estimate=rho(scores))


def similar_on_tasks(scores: pd.DataFrame, variance: float) -> Evidence:
    """C1b without its controls: the median over tasks of rho_t = sqrt(2 max(0, s_t^2 - v/2)), s_t over methods.

    ``variance``: v, the noise variance of a difference of two cells. Each task has the bounds of 90 % that chi-square
    gives for s_t.
    """
    array = _checked(scores)
    squares, freedom = array.var(axis=1, ddof=1), array.shape[1] - 1

    def distance(square: float) -> float:
        return math.sqrt(2 * max(0.0, square - variance / 2))

    effects = {str(task): distance(square) for task, square in zip(scores.index, squares, strict=True)}
    ends = [freedom / float(stats.chi2.ppf(level, freedom)) for level in (0.95, 0.05)]
    bounds = {
        str(task): (distance(ends[0] * square), distance(ends[1] * square))
        for task, square in zip(scores.index, squares, strict=True)
    }
    return Evidence(effects, kind="alike", margin=MARGIN, bounds=bounds, estimate=median(list(effects.values())))


def median(values: Sequence[float]) -> Estimate:
    """The median, with order statistics as intervals: the narrowest symmetric pair with the coverage or more."""
    ordered, n = sorted(values), len(values)

    def ends(level: float) -> tuple[float, float]:
        enough = [k for k in range(1, n // 2 + 1) if 1 - 2 * float(stats.binom.cdf(k - 1, n, 0.5)) >= level]
        return (ordered[max(enough) - 1], ordered[n - max(enough)]) if enough else (math.nan, math.nan)

    return Estimate(float(np.median(ordered)), *ends(0.95), *ends(0.90), n=n)


def slopes(scores: pd.DataFrame, params: pd.DataFrame) -> dict[str, float]:
    """By task, the least-squares slope of accuracy on log10(trainable parameters): points for each decade of them.

    ``params``: of the chosen settings, of the same tasks and methods as ``scores``.
    """
    _checked(scores)
    decades = np.log10(params.loc[scores.index, scores.columns].to_numpy(dtype=float))
    rows = zip(scores.index, decades, scores.to_numpy(dtype=float), strict=True)
    return {str(task): float(np.polyfit(x, y, 1)[0]) for task, x, y in rows}


def contrast(far: Sequence[float], near: Sequence[float]) -> Estimate:
    """The mean of some values minus that of others, with Welch's intervals; NaN ends where a side has one value."""
    one, two = np.asarray(far, dtype=float), np.asarray(near, dtype=float)
    if not len(one) or not len(two):
        raise UserError(f"a contrast needs values on both sides; there are {len(one)} and {len(two)}")
    apart, n = float(one.mean() - two.mean()), len(one) + len(two)
    if min(len(one), len(two)) < 2:
        return Estimate(apart, n=n)
    parts = [float(side.var(ddof=1)) / len(side) for side in (one, two)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (one, two), strict=True))
    wide, narrow = half_intervals(math.sqrt(sum(parts)), freedom)
    return Estimate(apart, apart - wide, apart + wide, apart - narrow, apart + narrow, n)


def gained(by_rate: pd.Series, rate: float) -> tuple[bool, float]:
    """Is the rate nearest to ``rate`` the lowest or highest of those tried, and how many points it has over the best of
    the others, 0 or more. ``by_rate``: validation accuracy by learning rate, from low to high."""
    rates = by_rate.index.to_numpy(dtype=float)
    place = int(np.argmin(np.abs(np.log(rates) - math.log(rate))))
    others = np.delete(by_rate.to_numpy(dtype=float), place)
    return place in (0, len(rates) - 1), max(0.0, float(by_rate.iloc[place] - np.nanmax(others)))


def halves(distance: pd.Series) -> tuple[list[str], list[str]]:
    """Near and far: the tasks of smaller and of larger distance, as many of each; a middle one belongs to neither."""
    ordered = [str(task) for task in distance.sort_values(kind="stable").index]
    count = len(ordered) // 2
    return ordered[:count], ordered[len(ordered) - count :]
