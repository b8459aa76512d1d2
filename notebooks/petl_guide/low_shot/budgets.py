"""Equal budgets out of unequal ones: what would the study's methods have shown if all had had the same few trials?

The study tried 4 settings of BitFit on a task and 80 of ConvPass, and kept the best of each. Of a cell (a task and a
method) with n trials, ``expected_best`` gives what the best of k of them, drawn without replacement, comes to on
average: k = n is what was chosen, k = 1 the mean. Four is the smallest grid, so k = 4 puts all methods on one footing
and is exact for those that had no more.

What this cannot do:

- These are accuracies on the 200 validation images, among which the trial was chosen; not on the test images. Choosing
  on noise alone lifts the best of k alike for two methods only where their trials differ alike (``table`` gives the
  deviation of a cell's trials).
- Four settings out of a grid in random order are not the four that a person would try first. So k = 4 is a lower bound
  for whoever knows good sizes, scales and rates; RepAdapter, LoRA and FacT lose by some that nobody would begin with.
  The best of 16 stands beside it, for the methods that have as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from petl_core.utils import UserError
from petl_guide import published

FEWEST, MORE = 4, 16  # trials: the smallest grid of the study, and one that the methods with a size all have


def expected_best(values: np.ndarray, k: int) -> np.ndarray:
    """The mean, over all subsets of size ``k``, of the largest of n values: (..., n) -> (...), for k from 1 to n.

    Of the sorted values v_i it is the sum of v_i C(i - 1, k - 1) / C(n, k); ties need nothing more.
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    n = ordered.shape[-1]
    if not 1 <= k <= n:
        raise UserError(f"best of {k} needs {k} trials or more and k of 1 or more; there are {n}")
    return ordered @ (np.array([math.comb(i, k - 1) for i in range(n)], dtype=float) / math.comb(n, k))


def best_of(k: int) -> pd.DataFrame:
    """Tasks x methods: the expected best validation accuracy (percent) of ``k`` of a cell's published trials.

    NaN for the methods that had fewer.
    """
    cells = published.read("tuning").groupby(["task", "method"])["val_accuracy"]
    return cells.apply(lambda tried: expected_best(tried.to_numpy(), k) if k <= len(tried) else np.nan).unstack()


def curves(methods: Sequence[str]) -> dict[str, pd.Series]:
    """For each of these methods: the expected best of k trials (percent, mean over tasks), for k from 1 up."""
    trials, found = published.read("tuning"), {}
    for method in methods:
        tried = trials[trials["method"] == method]
        cells = tried.pivot(index="task", columns="trial", values="val_accuracy").to_numpy()  # as many on each task
        ks = range(1, cells.shape[1] + 1)
        means = [float(expected_best(cells, k).mean()) for k in ks]
        found[method] = pd.Series(means, index=pd.Index(ks, name="trials"))
    return found


def table() -> pd.DataFrame:
    """A row for each method, by number of trials; percent, means over tasks.

    Columns method, trials, ``four``, ``sixteen`` and ``all`` (expected best of so many), ``gap`` (validation minus test
    accuracy of the chosen trial, points) and ``deviation`` (of a cell's trials, points, median over tasks).
    """
    cells = published.read("tuning").groupby(["task", "method"])["val_accuracy"]
    rows = published.optimism().set_index("method")[["trials", "gap"]]
    rows["four"], rows["sixteen"] = best_of(FEWEST).mean(), best_of(MORE).mean()
    rows["all"] = cells.max().groupby("method").mean()
    rows["deviation"] = cells.std().groupby("method").median()
    return rows[["trials", "four", "sixteen", "all", "gap", "deviation"]].reset_index()
