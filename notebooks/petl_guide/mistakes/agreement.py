"""Do methods make different mistakes? Agreement of predictions, against what accuracy, chance and other seeds explain.

Two runs may agree because they are good (what is right is the same for both), because they are alike, or by luck. So
agreement is set beside three references: what two runs of these accuracies with unrelated mistakes would show, Cohen's
kappa of correctness (0: unrelated, 1: the same images), and two runs of *one* method that differ in the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from petl_core.study import predictions
from petl_core.study.predictions import Predictions
from petl_core.utils import UserError


def agreement(classes: np.ndarray) -> np.ndarray:
    """Per cent of images on which each pair of runs predicts the same class; ``classes`` (R, n), result (R, R)."""
    return 100.0 * np.stack([(classes == one).mean(axis=1) for one in classes])


def expected_agreement(one: float, two: float, classes: int) -> float:
    """Agreement (%) of two runs with these accuracies (%) if their mistakes had nothing to do with each other.

    Both right: ab. Both wrong, with the wrong classes equally likely: (1 - a)(1 - b) / (C - 1).
    """
    if not (0 <= one <= 100 and 0 <= two <= 100 and classes >= 2):
        raise UserError(f"accuracies {one} and {two} must lie in 0 to 100 %, and classes ({classes}) be 2 or more")
    a, b = one / 100, two / 100
    return 100 * (a * b + (1 - a) * (1 - b) / (classes - 1))


def kappa(correct: np.ndarray) -> np.ndarray:
    """Cohen's kappa of being right, for each pair of runs; ``correct`` (R, n) bool, result (R, R).

    (p_o - p_e) / (1 - p_e), with p_o the share of images on which both are right or both wrong and p_e what unrelated
    runs of these accuracies would have. NaN where both are right, or both wrong, everywhere.
    """
    right = correct.mean(axis=1)
    observed = agreement(correct) / 100
    expected = np.outer(right, right) + np.outer(1 - right, 1 - right)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def pairs(found: Predictions) -> pd.DataFrame:
    """A row for each pair of runs that differ in the method or the seed alone (``predictions.pairs`` gives the names).

    Further columns: disagreement, expected (disagreement of unrelated mistakes), in per cent, and kappa.
    """
    right, apart = found.correct, 100 - agreement(found.classes)
    accuracy, k = 100 * right.mean(axis=1), kappa(right)
    rows = []
    for i, j, names in predictions.pairs(found):
        unrelated = 100 - expected_agreement(accuracy[i], accuracy[j], found.logits.shape[2])
        rows.append(names | {"disagreement": apart[i, j], "expected": unrelated, "kappa": k[i, j]})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Excess:
    """How much more methods disagree with each other than seeds of one method do, in points, on one task."""

    between: float
    within: float
    p: float
    methods: int
    seeds: int

    @property
    def difference(self) -> float:
        return self.between - self.within


def excess(found: Predictions, draws: int = 2000) -> Excess:
    """Disagreement between methods (any seeds) minus that between seeds of one method, with a permutation test.

    If the method did not matter, a run's label could be exchanged with any other's; ``p`` is the share of ``draws``
    random exchanges (the real one counted) whose difference is at least as large. Needs two methods with equally many
    seeds, two or more. The smallest p possible is one over the number of ways to form the groups.
    """
    counts = found.runs.groupby("method").size()
    if len(counts) < 2 or counts.min() < 2 or counts.min() != counts.max():
        raise UserError(
            "between methods against between seeds needs 2 or more methods with equally many seeds, 2 or more; "
            f"{found.task} has {', '.join(f'{m} {n}' for m, n in counts.items())}"
        )
    apart = 100 - agreement(found.classes)
    labels = found.runs["method"].astype("category").cat.codes.to_numpy()
    upper = np.triu_indices(len(labels), 1)
    values = apart[upper]

    def difference(names: np.ndarray) -> tuple[float, float]:
        same = names[upper[0]] == names[upper[1]]
        return float(values[~same].mean()), float(values[same].mean())

    between, within = difference(labels)
    random = np.random.default_rng(0)
    drawn = np.array([np.subtract(*difference(random.permutation(labels))) for _ in range(draws)])
    reached = int((drawn >= between - within - 1e-9).sum())
    return Excess(between, within, (1 + reached) / (1 + draws), len(counts), int(counts.min()))
