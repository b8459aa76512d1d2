"""Rank tests over tasks: Friedman's test, and Nemenyi's critical difference of mean ranks, which tells pairs apart.

Ranks ask "who wins, task by task" and ignore by how much, so a task with large gaps counts no more than another. After
Demsar (JMLR 7, 2006). The tasks are the sample; with few of them only large differences of ranks can be told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.utils import UserError
from petl_guide.runs import grid


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods are equal. Kendall's W: do tasks agree on the order, from 0 (no) to 1?"""

    chi2: float
    df: int
    p: float
    w: float
    tasks: int


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Ranks of methods (columns) in each task (row) of accuracies; 1 is the best, ties share their mean rank."""
    return _whole(table).rank(axis=1, ascending=False, method="average")


def average_ranks(table: pd.DataFrame) -> pd.Series:
    """Mean rank of each method over the tasks, best first."""
    return ranks(table).mean().sort_values(kind="stable")


def friedman(table: pd.DataFrame) -> Friedman:
    """Friedman's chi-squared test on tasks x methods of accuracies (corrected for ties, as in scipy)."""
    n, k = _whole(table, methods=3, tasks=2).shape
    chi2, p = stats.friedmanchisquare(*(table[column] for column in table))
    return Friedman(float(chi2), k - 1, float(p), float(chi2) / (n * (k - 1)), n)


def critical_difference(methods: int, tasks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q sqrt(k (k + 1) / (6 n)), k methods, n tasks.

    q is the upper alpha point of the studentised range of k groups, infinite degrees of freedom, divided by sqrt(2).
    """
    if methods < 2 or tasks < 2:
        raise UserError(f"a critical difference needs 2 methods and 2 tasks or more; there are {methods} and {tasks}")
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}; it must lie between 0 and 1, for example 0.05")
    q = float(stats.studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def cliques(means: pd.Series, difference: float) -> list[list[str]]:
    """The largest sets of methods whose mean ranks lie within ``difference``: the bars of the diagram, best first."""
    ordered = means.sort_values(kind="stable")
    values, names = ordered.to_numpy(), list(ordered.index)
    found: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = int(np.searchsorted(values, values[start] + difference, side="right"))
        if end - start > 1 and (not found or end > found[-1][1]):
            found.append((start, end))
    return [names[start:end] for start, end in found]


def separated(table: pd.DataFrame, alpha: float = 0.05) -> tuple[int, int]:
    """How many pairs of methods differ by the critical difference or more, and how many pairs there are."""
    means = average_ranks(table).to_numpy()
    gaps = np.abs(means[:, None] - means[None])[np.triu_indices(len(means), 1)]
    return int((gaps >= critical_difference(len(means), len(table), alpha)).sum()), len(gaps)


def replication(runs: pd.DataFrame) -> float:
    """How well the order of methods (by mean over tasks) repeats: mean Spearman correlation over pairs of seeds."""
    runs = grid(runs)
    means = runs.pivot_table(index="method", columns="seed", values="accuracy", aggfunc="mean")
    if means.shape[1] < 2 or means.shape[0] < 3:
        raise UserError(f"replication needs 3 methods and 2 seeds or more; there are {len(means)} and {means.shape[1]}")
    matrix = means.corr(method="spearman").to_numpy()
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def _whole(table: pd.DataFrame, methods: int = 1, tasks: int = 1) -> pd.DataFrame:
    if table.isna().to_numpy().any():
        task, method = next((t, m) for t in table.index for m in table if pd.isna(table.loc[t, m]))
        raise UserError(f"the accuracy of {method} on {task} is missing; ranks need all methods on all tasks")
    if table.shape[0] < tasks or table.shape[1] < methods:
        raise UserError(
            f"this test needs {tasks} tasks and {methods} methods or more; there are {len(table)} and {table.shape[1]}"
        )
    return table
