"""Ensembles of runs (mean logit, mean probability, vote) against single runs, other seeds, and the oracle.

An ensemble of five methods is also an ensemble of five runs, and runs that differ in the seed alone gain from averaging
too. So the comparison that says something about *methods* is the one with as many seeds of one method.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd

from petl_core.study.predictions import Predictions, softmax
from petl_core.utils import UserError

HOW = ("logit", "probability", "vote")


def combine(logits: np.ndarray, how: str = "logit") -> np.ndarray:
    """Scores (n, C) of an ensemble of R runs with ``logits`` (R, n, C); its prediction is the largest.

    "logit": their mean (what the study reports); "probability": the mean of their softmax; "vote": votes for each
    class, ties decided by the mean probability.
    """
    if how not in HOW:
        raise UserError(f"unknown way to combine runs {how!r}; it is {', '.join(HOW)}")
    if logits.ndim != 3 or not len(logits):
        raise UserError(f"an ensemble needs logits (runs, images, classes) of one run or more; got {logits.shape}")
    if how == "logit":
        return logits.mean(axis=0)
    probability = softmax(logits).mean(axis=0)
    if how == "probability":
        return probability
    votes = np.zeros(logits.shape[1:])
    for chosen in logits.argmax(axis=2):
        votes[np.arange(len(chosen)), chosen] += 1
    return votes + probability / 2  # less than half a vote


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of images whose largest score (n, C) is their label's."""
    return float(100 * (scores.argmax(axis=1) == labels).mean())


def oracle(correct: np.ndarray) -> float:
    """Per cent of images that at least one run classifies correctly: what no choice among these runs can exceed."""
    return float(100 * correct.any(axis=0).mean())


def of_methods(found: Predictions) -> pd.Series:
    """Accuracy (%) of each method, mean over its seeds."""
    return pd.Series(100 * found.correct.mean(axis=1)).groupby(found.runs["method"].to_numpy()).mean()


def summary(found: Predictions, how: str = "logit") -> dict[str, float]:
    """Accuracies (%) on one task: single runs, the ensemble of all methods with one seed (mean over seeds), the oracle.

    "best single" and "worst single" are methods, by their mean over seeds on the same test images; the best is
    therefore a little optimistic, and an ensemble that beats it beats a choice that nobody could have made.
    """
    means = of_methods(found)
    seeds = found.runs["seed"].to_numpy()
    members = [np.flatnonzero(seeds == seed).tolist() for seed in sorted(set(seeds))]
    correct = found.correct
    return {
        "mean single": float((correct.mean(axis=1) * 100).mean()),
        "worst single": float(means.min()),
        "best single": float(means.max()),
        "ensemble": float(np.mean([_together(found, index, how) for index in members])),
        "oracle": float(np.mean([oracle(correct[index]) for index in members])),
    }


def _together(found: Predictions, index: list[int], how: str) -> float:
    """Accuracy (%) of the ensemble of the runs at these places."""
    if how == "logit":  # the sum's largest class is the mean's, and needs no copy of the members
        return accuracy(functools.reduce(np.add, (found.logits[i] for i in index)), found.labels)
    return accuracy(combine(found.logits[index], how), found.labels)


def same_size(found: Predictions, size: int, how: str = "logit", draws: int = 200) -> pd.DataFrame:
    """Ensembles of ``size`` runs: of different methods, and of one method with other seeds.

    Columns kind ("methods" or "seeds"), single (mean accuracy of the members), accuracy (of the ensemble). Every set of
    ``size`` seeds of each method is taken; of the sets of methods, each member with a random seed, at most ``draws``.
    Mean over its rows, "single" is nearly the same for both kinds, so their accuracies can be compared.
    """
    names = list(dict.fromkeys(found.runs["method"]))
    seeds = sorted(set(found.runs["seed"]))
    if not 2 <= size <= min(len(names), len(seeds)):
        raise UserError(
            f"ensembles of {size} need {size} methods and {size} seeds, and 2 or more; {found.task} has {len(names)} "
            f"methods and {len(seeds)} seeds"
        )
    random = np.random.default_rng(0)
    sets = list(itertools.combinations(names, size))
    if len(sets) > draws:
        sets = [sets[i] for i in sorted(random.choice(len(sets), draws, replace=False))]
    place = {key: i for i, key in enumerate(found.runs[["method", "seed"]].itertuples(index=False, name=None))}
    chosen = [("methods", [(m, int(random.choice(seeds))) for m in members]) for members in sets]
    chosen += [("seeds", [(m, s) for s in some]) for m in names for some in itertools.combinations(seeds, size)]
    right, rows = found.correct.mean(axis=1) * 100, []
    for kind, members in chosen:
        absent = [member for member in members if member not in place]
        if absent:
            raise UserError(f"no predictions on {found.task} by {absent[0][0]} seed {absent[0][1]}; run it")
        index = [place[member] for member in members]
        rows.append((kind, float(right[index].mean()), _together(found, index, how)))
    return pd.DataFrame(rows, columns=["kind", "single", "accuracy"])
