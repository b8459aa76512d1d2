"""Accuracy under distribution shift, compared at matched accuracy on the target.

A model that is worse on the target is often better off it, so "more robust" must be said at equal target accuracy. A
weight-space ensemble gives each method a whole curve to compare on (Wortsman et al., 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from petl_core.utils import UserError


def at_target(alphas: Sequence[float], target: Sequence[float], shifted: Sequence[float], level: float) -> float:
    """Accuracy under shift where an ensemble's accuracy on the target is ``level``, in percent.

    Linear between neighbouring alphas, along the part of the curve from alpha = 0 to the highest target accuracy.
    NaN if that part does not reach the level, or starts above it.
    """
    order = np.argsort(np.asarray(alphas, dtype=float), kind="stable")
    x, y = np.asarray(target, dtype=float)[order], np.asarray(shifted, dtype=float)[order]
    rising = slice(0, int(np.argmax(x)) + 1)
    x, y = x[rising], y[rising]
    if not x[0] <= level <= x[-1]:
        return float("nan")
    above = int(np.argmax(x >= level))
    if above == 0 or x[above] == level:
        return float(y[above])
    share = (level - x[above - 1]) / (x[above] - x[above - 1])
    return float(y[above - 1] + share * (y[above] - y[above - 1]))


def matched(curves: pd.DataFrame, levels: Sequence[float], target: str = "imagenet") -> pd.DataFrame:
    """``at_target`` for each method (rows) and level (columns); ``curves`` has method, alpha, shift and the target."""
    absent = [column for column in ("method", "alpha", "shift", target) if column not in curves]
    if absent:
        raise UserError(f"curves of weight-space ensembles lack the columns {', '.join(absent)}")
    doubled = curves[curves.duplicated(["method", "alpha"])]
    if len(doubled):
        row = doubled.iloc[0]
        raise UserError(f"{row['method']} has several points at alpha {row['alpha']}; choose one kind of interpolation")
    rows = {
        method: [at_target(part["alpha"], part[target], part["shift"], level) for level in levels]
        for method, part in curves.groupby("method", sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(levels)).rename_axis("method")
