"""Intervals of means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from petl_core.utils import UserError


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval; NaN ends where one value gives none."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """The mean of n independent values and its t interval, mean ± t(n - 1) s / sqrt(n): exact for normal values; it is
    honest, and wide, for three seeds. ``UserError`` for numbers that are not finite, and for a level outside 0 to 1."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise UserError(f"an interval needs a list of finite numbers; it got {array!r}")
    if not 0 < level < 1:
        raise UserError(f"the level of an interval is {level}; it must lie between 0 and 1, for example 0.95")
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * float(array.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)
