"""Do methods differ by more than seeds do? Components of variance of accuracy, by analysis of variance.

"Similar accuracy" is a statement about sizes: how far methods lie apart, on average over tasks and on single tasks,
against how far two runs of one method lie apart. All designs are balanced: every method, task and seed exactly once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.utils import UserError
from petl_guide.runs import grid, group_order

LEVEL = 0.95


@dataclass(frozen=True)
class OneWay:
    """y = mean + method + seed on one task. ``between`` and ``within`` are standard deviations, in points.

    ``share`` is between² / (between² + within²), with the ends of its exact 95 % interval.
    """

    between: float
    within: float
    f: float
    p: float
    share: float
    share_low: float
    share_high: float


def one_way(runs: pd.DataFrame, level: float = LEVEL) -> OneWay:
    """Methods against seeds on one task, methods as a sample of methods (random effects).

    With k methods, n seeds, mean squares MSB and MSW: within² = MSW, between² = max(0, (MSB - MSW) / n), F = MSB / MSW
    on k - 1 and k (n - 1) degrees of freedom. The interval of the share follows from that of F (Searle, 1971).
    """
    runs = grid(runs)
    tasks = sorted(set(runs["task"]))
    if len(tasks) != 1:
        raise UserError(f"one_way compares runs of one task; it got {len(tasks)}: {', '.join(tasks)}")
    y = runs.pivot(index="method", columns="seed", values="accuracy").to_numpy()
    k, n = y.shape
    if k < 2 or n < 2:
        raise UserError(f"components of variance need 2 methods and 2 seeds or more; {tasks[0]} has {k} and {n}")
    msb = n * y.mean(axis=1).var(ddof=1)
    msw = y.var(axis=1, ddof=1).mean()
    between = math.sqrt(max(0.0, (msb - msw) / n))
    if msw == 0 and msb == 0:  # all runs are equal
        return OneWay(between, 0.0, math.nan, math.nan, 0.0, 0.0, 0.0)
    if msw == 0:
        return OneWay(between, 0.0, math.inf, 0.0, 1.0, 1.0, 1.0)
    f, d1, d2 = float(msb / msw), k - 1, k * (n - 1)
    ends = [f / stats.f.ppf(q, d1, d2) for q in (0.5 + level / 2, 0.5 - level / 2)]
    low, high = (max(0.0, (end - 1) / (end + n - 1)) for end in ends)
    share = max(0.0, (f - 1) / (f + n - 1))
    return OneWay(between, math.sqrt(msw), f, float(stats.f.sf(f, d1, d2)), share, low, high)


def by_task(runs: pd.DataFrame) -> pd.DataFrame:
    """``one_way`` for each task, a row each, in the order of the groups."""
    runs = grid(runs)
    rows = []
    for group in group_order(runs["group"]):
        part = runs[runs["group"] == group]
        rows += [{"group": group, "task": task, **vars(one_way(cell))} for task, cell in part.groupby("task")]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Components:
    """Standard deviations, in points, of y = task + method + method x task + seed, and the tests of the first two.

    ``method``: between methods, on all tasks alike; ``interaction``: a method's liking for a task; ``seed``: the rest.
    """

    method: float
    interaction: float
    seed: float
    method_low: float  # ends of the 95 % interval of ``method``
    method_high: float
    p_method: float  # against the interaction: would the order hold on other tasks like these?
    p_interaction: float  # against seeds


def components(runs: pd.DataFrame) -> Components:
    """Methods, their interaction with tasks, and seeds; methods and tasks as samples (random effects).

    With k methods, t tasks, n seeds: seed² = MSE, interaction² = (MSI - MSE) / n, method² = (MSM - MSI) / (n t), each
    cut at 0; F = MSM / MSI and MSI / MSE.
    """
    runs = grid(runs)
    table = runs.pivot(index=["task", "method"], columns="seed", values="accuracy")
    t, k, n = runs["task"].nunique(), runs["method"].nunique(), table.shape[1]
    if t < 2 or k < 2 or n < 2:
        raise UserError(f"these components need 2 tasks, methods and seeds or more; there are {t}, {k} and {n}")
    y = table.to_numpy().reshape(t, k, n)
    cells = y.mean(axis=2)
    of_method = cells.mean(axis=0)
    rest = cells - of_method - cells.mean(axis=1, keepdims=True) + cells.mean()
    msm = n * t * of_method.var(ddof=1)
    msi = n * (rest**2).sum() / ((t - 1) * (k - 1))
    mse = y.var(axis=2, ddof=1).mean()
    d_method, d_inter, d_seed = k - 1, (t - 1) * (k - 1), t * k * (n - 1)
    low, high = _tukey_williams(msm, msi, d_method, d_inter, n * t)
    return Components(
        method_low=low,
        method_high=high,
        method=math.sqrt(max(0.0, (msm - msi) / (n * t))),
        interaction=math.sqrt(max(0.0, (msi - mse) / n)),
        seed=math.sqrt(mse),
        p_method=_p(msm, msi, d_method, d_inter),
        p_interaction=_p(msi, mse, d_inter, d_seed),
    )


def _tukey_williams(upper: float, lower: float, d1: int, d2: int, count: int) -> tuple[float, float]:
    """The interval of Williams (1962) and Tukey (1951) for the deviation of an effect with mean square ``upper``."""
    ends = []
    for q in (0.5 + LEVEL / 2, 0.5 - LEVEL / 2):
        excess = upper - lower * float(stats.f.ppf(q, d1, d2))
        ends.append(math.sqrt(max(0.0, d1 * excess / (count * float(stats.chi2.ppf(q, d1))))))
    return ends[0], ends[1]


def _p(upper: float, lower: float, d1: int, d2: int) -> float:
    if lower <= 1e-20:
        return math.nan if upper <= 1e-20 else 0.0
    return float(stats.f.sf(upper / lower, d1, d2))


def group_components(runs: pd.DataFrame) -> pd.DataFrame:
    """``components`` within each group of two tasks or more, and over all tasks."""
    runs = grid(runs)
    parts = {group: runs[runs["group"] == group] for group in group_order(runs["group"])}
    parts = {group: part for group, part in parts.items() if part["task"].nunique() > 1} | {"all tasks": runs}
    rows = [
        {"group": group, **vars(components(part)), "tasks": part["task"].nunique()} for group, part in parts.items()
    ]
    return pd.DataFrame(rows)


def detectable(within: float, seeds: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The difference of two methods, in points, that ``seeds`` runs each find with this power (two-sided t test)."""
    if seeds < 2 or not within >= 0:
        raise UserError(f"detectable needs 2 seeds or more and a deviation of 0 or more; it got {seeds} and {within}")
    freedom = 2 * (seeds - 1)
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    effects = np.linspace(0, 12, 2401)
    reached = stats.nct.sf(critical, freedom, effects * math.sqrt(seeds / 2)) >= power
    return float(effects[np.argmax(reached)] * within) if reached.any() else math.inf
