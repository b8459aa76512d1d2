"""Does size pay on tasks far from the pre-training? Rank correlation of parameters and accuracy, against distance.

The study reads its three groups as near and far. Here distance is measured, by what linear probing cannot do: the gain
of full fine-tuning over it, or the error it leaves. Both come from the same runs, so neither needs new data.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.study.statistics import Interval
from petl_core.utils import UserError


def size_matters(scores: pd.DataFrame, params: Mapping[str, float]) -> pd.Series:
    """For each task (row of ``scores``, tasks x methods): Spearman's correlation of parameters with accuracy."""
    if absent := [method for method in scores.columns if method not in params]:
        raise UserError(f"the parameters of {', '.join(absent)} are missing")
    if scores.shape[1] < 3:
        raise UserError(f"a rank correlation needs three methods or more; there are {scores.shape[1]}")
    counts = [params[method] for method in scores.columns]
    return pd.Series(
        {task: float(stats.spearmanr(counts, row).statistic) for task, row in scores.iterrows()}, dtype=float
    )


def distance(linear: pd.Series, full: pd.Series | None = None) -> pd.Series:
    """How far each task is, in points: full fine-tuning's gain over linear probing, or without it linear's error."""
    return 100 - linear if full is None else full - linear


def trend(one: pd.Series, two: pd.Series, draws: int = 2000, level: float = 0.95) -> Interval:
    """Spearman's rank correlation of two quantities over the tasks that both have, five or more, with the percentiles
    of resampling the tasks."""
    both = pd.concat([one, two], axis=1, join="inner").dropna().to_numpy()
    if len(both) < 5:
        raise UserError(f"a trend over {len(both)} tasks says nothing; five or more are needed")
    random = np.random.default_rng(0)
    ranked = stats.rankdata(both[random.integers(0, len(both), (draws, len(both)))], axis=1)  # (draws, n, 2)
    centred = ranked - ranked.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=1)).prod(axis=1)
    rho = (centred[..., 0] * centred[..., 1]).sum(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.quantile(rho, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(stats.spearmanr(*both.T).statistic), float(low), float(high), len(both))
