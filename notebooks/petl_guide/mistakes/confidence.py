"""Which images is a run sure of, and right; which unsure of, and wrong? And do methods share them beyond chance?

The study's sets: of the N images of highest confidence those that are classified correctly, and of the N of lowest
confidence those that are not. Two sets of sizes a and b among n images share a b / n if they have nothing to do with
each other, so a count of shared images says nothing without that number, and little without another seed's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from petl_core.study import predictions
from petl_core.study.predictions import Predictions
from petl_core.utils import UserError


def confident_correct(found: Predictions, n: int) -> np.ndarray:
    """(R, images) bool: among a run's ``n`` most confident images, those that it classifies correctly."""
    return _extreme(-found.confidence, n) & found.correct


def unconfident_wrong(found: Predictions, n: int) -> np.ndarray:
    """(R, images) bool: among a run's ``n`` least confident images, those that it classifies wrongly."""
    return _extreme(found.confidence, n) & ~found.correct


def _extreme(score: np.ndarray, n: int) -> np.ndarray:
    """The ``n`` lowest of each row; ties go to the earlier image."""
    if not 1 <= n <= score.shape[1]:
        raise UserError(f"a set of {n} images cannot be taken from {score.shape[1]}; choose 1 to {score.shape[1]}")
    chosen = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(score, axis=1, kind="stable")[:, :n], values=True, axis=1)
    return chosen


SETS = {"confident_correct": confident_correct, "unconfident_wrong": unconfident_wrong}


@dataclass(frozen=True)
class Overlap:
    """Images that two sets share, beside what two unrelated sets of their sizes would share."""

    shared: int
    chance: float
    deviation: float  # standard deviation of the number shared by unrelated sets
    smaller: int  # size of the smaller set

    @property
    def z(self) -> float:
        """How many standard deviations above chance; 0 where chance leaves no choice."""
        return (self.shared - self.chance) / self.deviation if self.deviation else 0.0

    @property
    def beyond_chance(self) -> float:
        """0 for unrelated sets, 1 if the smaller lies within the larger; NaN where chance leaves no choice."""
        return (self.shared - self.chance) / (self.smaller - self.chance) if self.smaller > self.chance else math.nan


def overlap_of_counts(pool: int, sizes: tuple[int, int], shared: int) -> Overlap:
    """The overlap of two sets of these sizes among ``pool`` images that have ``shared`` in common.

    Unrelated sets share a hypergeometric number of images. ``UserError`` for numbers that cannot be.
    """
    a, b = sizes
    if not 0 <= shared <= min(sizes) <= max(sizes) <= pool:
        raise UserError(f"{shared} shared by sets of {a} and {b} among {pool} images is impossible")
    variance = a * b * (pool - a) * (pool - b) / (pool**2 * max(pool - 1, 1))
    return Overlap(shared, a * b / pool, math.sqrt(variance), min(a, b))


def pairs(found: Predictions, n: int, which: str = "confident_correct") -> pd.DataFrame:
    """A row for each pair of runs that differ in the method or the seed alone (``predictions.pairs`` gives the names).

    Further columns: shared, and chance (what unrelated sets would share), both in per cent of the smaller set.
    """
    if which not in SETS:
        raise UserError(f"unknown set {which!r}; it is {' or '.join(SETS)}")
    sets = SETS[which](found, n)
    rows = []
    for i, j, names in predictions.pairs(found):
        sizes = int(sets[i].sum()), int(sets[j].sum())
        met = overlap_of_counts(sets.shape[1], sizes, int((sets[i] & sets[j]).sum()))
        scale = 100 / met.smaller if met.smaller else math.nan
        rows.append(names | {"shared": scale * met.shared, "chance": scale * met.chance})
    return pd.DataFrame(rows)
