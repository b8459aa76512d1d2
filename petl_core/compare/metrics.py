"""What is said of a model beside its accuracy: balanced accuracy, macro F1, recall by class, calibration.

Intervals come from resampling the test images, so their ends never leave 0 to 100.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from petl_core.study.predictions import softmax
from petl_core.study.statistics import Interval

DRAWS = 1000
BINS = 15  # of confidence, for the calibration error (Guo et al., 2017, arXiv 1706.04599)


@dataclass(frozen=True)
class Quality:
    """Of one method on the test images, all seeds together, in percent.

    ``confusion`` (C, C): images of each true class (rows) by predicted class, mean over seeds. ``recall``: of each
    class, with Wilson's interval; NaN for a class without test images. ``ece``: expected calibration error of the
    probabilities as they are; ``temperature``: what to divide the logits by, and the error that this leaves when it is
    found on one half of the images and measured on the other.
    """

    accuracy: Interval
    balanced: Interval
    macro_f1: Interval
    recall: list[Interval]
    confusion: np.ndarray
    ece: float
    temperature: float
    ece_after: float


def quality(logits: np.ndarray, labels: np.ndarray) -> Quality:
    """``Quality`` of logits (seeds, n, C) for labels (n,)."""
    classes = logits.shape[-1]
    pairs = labels * classes + logits.argmax(axis=2)  # (seeds, n): true and predicted class in one number
    each = _confusions(pairs, classes)
    confusion = each.mean(axis=0)
    random = np.random.default_rng(0)
    rows = (random.integers(0, len(labels), len(labels)) for _ in range(DRAWS))
    drawn = np.stack([_scores(_confusions(pairs[:, some], classes)) for some in rows])
    found = _scores(each)
    accuracy, balanced, macro_f1 = (_interval(value, drawn[:, i], len(labels)) for i, value in enumerate(found))
    of_class = np.bincount(labels, minlength=classes)
    recall = [_wilson(confusion[label, label], int(count)) for label, count in enumerate(of_class)]
    halves = np.arange(len(labels)) % 2 == 0
    after = np.mean([ece(logits[:, b] / temperature(logits[:, a], labels[a]), labels[b]) for a, b in _both(halves)])
    return Quality(
        accuracy=accuracy,
        balanced=balanced,
        macro_f1=macro_f1,
        recall=recall,
        confusion=confusion,
        ece=ece(logits, labels),
        temperature=temperature(logits, labels),
        ece_after=float(after),
    )


def _both(halves: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return (halves, ~halves), (~halves, halves)


def _confusions(pairs: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([np.bincount(one, minlength=classes**2).reshape(classes, classes) for one in pairs])


def _scores(confusion: np.ndarray) -> np.ndarray:
    """Accuracy, balanced accuracy and macro F1, in percent, mean over seeds, of confusions (seeds, C, C)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    there = true > 0
    recall = np.where(there, right / np.maximum(true, 1), 0.0)
    f1 = np.where(there, 2 * right / np.maximum(true + predicted, 1), 0.0)
    count = there.sum(axis=1)
    accuracy = right.sum(axis=1) / true.sum(axis=1)
    return 100.0 * np.stack([accuracy, recall.sum(axis=1) / count, f1.sum(axis=1) / count]).mean(axis=1)


def _interval(value: float, drawn: np.ndarray, n: int) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)), n)


def _wilson(right: float, count: int) -> Interval:
    if not count:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    ends = stats.binomtest(round(right), count).proportion_ci(method="wilson")
    return Interval(100 * right / count, 100 * ends.low, 100 * ends.high, count)


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error in points: how far confidence and accuracy are apart, over bins of confidence."""
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=-1).ravel(), (probabilities.argmax(axis=-1) == labels).ravel()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(100.0 * np.abs(gaps).sum() / len(confidence))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T in 0.05 to 20 that makes softmax(logits / T) most likely."""

    def loss(log_t: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_t)
        picked = np.take_along_axis(scaled, np.broadcast_to(labels, scaled.shape[:-1])[..., None], axis=-1)[..., 0]
        return float(np.mean(np.logaddexp.reduce(scaled, axis=-1) - picked))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))
