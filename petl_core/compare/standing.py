"""Methods on the same test images: which are clearly worse than the best, all pairs considered at once.

A paired bootstrap over test images: two methods that are right on the same images differ by little luck. The luck of
the seed is added from the runs themselves. Picking the best of several and then comparing it with each is several looks
at the same images; so the intervals hold for all pairs together, or noise alone would name losers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.study.predictions import Predictions
from petl_core.utils import UserError

LEVEL = 0.95


@dataclass(frozen=True)
class Standing:
    """``table``: a row for each method, best first: method, accuracy, difference (to the best), low, high, may_lose.

    ``may_lose``: the most, in points, by which the method may be behind any other. ``over_constant``: the best minus
    the constant answer, low, high; all intervals hold together with ``LEVEL``.
    """

    table: pd.DataFrame
    constant: float
    over_constant: tuple[float, float, float]
    seeds: int


def standing(part: Predictions, constant: int, draws: int = 2000) -> Standing:
    """Compare the methods of ``part``, which have the same seeds, with their best and with the answer ``constant``.

    One standard error for each pair: of the images, from resampling them for both methods alike, and of the seeds,
    from their deviation within methods (pooled; widened as Student's t for few). The factor before it is the 95 %
    quantile of the largest standardised deviation over all pairs in the bootstrap. With one seed its luck is missing.
    """
    methods = list(dict.fromkeys(part.runs["method"]))
    if not methods:
        raise UserError("a comparison needs a method")
    of = part.runs["method"].to_numpy()
    right = 100.0 * part.correct  # (R, n)
    counts = {int((of == m).sum()) for m in methods}
    if len(counts) != 1:
        raise UserError("the methods have different numbers of runs; compare those seeds that all have")
    seeds = counts.pop()
    per_image = np.stack([right[of == m].mean(axis=0) for m in methods] + [100.0 * (part.labels == constant)])
    means = per_image.mean(axis=1)
    moved = _resampled(per_image, draws) - means  # (draws, M + 1)

    extra = 0.0
    if seeds > 1:
        runs = right.mean(axis=1)
        pooled = float(np.mean([runs[of == m].var(ddof=1) for m in methods]))
        freedom = len(methods) * (seeds - 1)
        widened = stats.t.ppf(0.5 + LEVEL / 2, freedom) / stats.norm.ppf(0.5 + LEVEL / 2)
        extra = widened**2 * pooled / seeds
    luck = np.full(len(means), extra)
    luck[-1] = 0.0  # the constant answer has no seed
    one, two = np.triu_indices(len(means), 1)
    gaps = moved[:, one] - moved[:, two]  # (draws, pairs)
    error = gaps.std(axis=0)
    standardised = np.abs(gaps) / np.where(error > 0, error, np.inf)
    factor = float(np.quantile(standardised.max(axis=1), LEVEL))
    half = np.zeros((len(means), len(means)))
    half[one, two] = half[two, one] = factor * np.sqrt(error**2 + luck[one] + luck[two])

    best = int(np.argmax(means[:-1]))
    ahead = means[None, :-1] - means[:-1, None] + half[:-1, :-1]  # (M, M): by how much the second may be ahead
    np.fill_diagonal(ahead, -np.inf)
    rows = [
        (
            m,
            means[i],
            means[i] - means[best],
            means[i] - means[best] - half[i, best],
            means[i] - means[best] + half[i, best],
            max(0.0, ahead[i].max()),
        )
        for i, m in enumerate(methods)
    ]
    table = pd.DataFrame(rows, columns=["method", "accuracy", "difference", "low", "high", "may_lose"])
    table.loc[table["method"] == methods[best], ["low", "high"]] = math.nan
    over = float(means[best] - means[-1])
    ends = (over, over - half[best, -1], over + half[best, -1])
    order = np.argsort(-means[:-1], kind="stable")  # of equals the first, which is the best above
    return Standing(table.iloc[order].reset_index(drop=True), float(means[-1]), ends, seeds)


def _resampled(per_image: np.ndarray, draws: int) -> np.ndarray:
    """Means (draws, rows) over images drawn with replacement, the same images for all rows."""
    random, n = np.random.default_rng(0), per_image.shape[1]
    chunks = []
    for start in range(0, draws, 100):  # so that the counts of many images do not fill the memory
        counts = random.multinomial(n, np.full(n, 1 / n), size=min(100, draws - start))
        chunks.append(counts @ per_image.T / n)
    return np.concatenate(chunks)
