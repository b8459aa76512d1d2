"""The test predictions of several runs of one task, on the same images in the same order: checked, not assumed.

Every comparison of predictions stands on that alignment. The study's overlap figure cannot be told from chance, and one
possible reason is that the rows of its logits belonged to different images; so here labels and sample ids of all runs
are compared before anything is computed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from petl_core.study.records import Records
from petl_core.utils import UserError

LABEL = ["method", "seed"]
SAME, DIFFERENT = "same method", "different methods"


@dataclass(frozen=True)
class Predictions:
    """Logits (R, n, C) float32 of R runs on the n images ``ids`` of one task, whose labels are (n,).

    ``runs`` has one row for each run, in the order of ``logits``: method, seed and digest.
    """

    task: str
    runs: pd.DataFrame
    logits: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        runs, n, classes = self.logits.shape
        if len(self.runs) != runs or self.labels.shape != (n,) or len(self.ids) != n:
            raise UserError(
                f"predictions on {self.task} do not fit together: {len(self.runs)} runs, logits {self.logits.shape}, "
                f"{len(self.labels)} labels, {len(self.ids)} ids"
            )
        if n == 0 or self.labels.min() < 0 or self.labels.max() >= classes:
            raise UserError(f"predictions on {self.task} need labels from 0 to {classes - 1} for at least one image")

    def __len__(self) -> int:
        return len(self.runs)

    @functools.cached_property
    def classes(self) -> np.ndarray:
        """The predicted classes, (R, n)."""
        return self.logits.argmax(axis=2)

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are right, (R, n)."""
        return self.classes == self.labels

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the predicted class, (R, n)."""
        rows = (1.0 / np.exp(one - one.max(axis=1, keepdims=True)).sum(axis=1) for one in self.logits)
        return np.stack(list(rows))  # run by run: no second array as large as the logits

    def of(self, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> Predictions:
        """The runs of these methods and seeds, in the order given. ``UserError`` naming one that is not there."""
        wanted = [
            (method, seed)
            for method in (methods if methods is not None else dict.fromkeys(self.runs["method"]))
            for seed in (seeds if seeds is not None else sorted(set(self.runs["seed"])))
        ]
        place = {key: i for i, key in enumerate(self.runs[LABEL].itertuples(index=False, name=None))}
        absent = [key for key in wanted if key not in place]
        if absent:
            names = ", ".join(f"{method} seed {seed}" for method, seed in absent[:4])
            raise UserError(f"no predictions on {self.task} by {names}; choose among those in .runs")
        rows = [place[key] for key in wanted]
        return replace(self, runs=self.runs.iloc[rows].reset_index(drop=True), logits=self.logits[rows])


def load(records: Records, runs: pd.DataFrame) -> Predictions:
    """The predictions of final runs of one task, rows of ``select.runs``; a run may appear once.

    Raises ``UserError`` naming the records if they are of several tasks, have diverged (such a run predicts nothing),
    or disagree on the images, their order, their labels or the number of classes.
    """
    tasks = sorted(set(runs["task"]))
    if len(tasks) != 1:
        raise UserError(f"predictions are compared on one task; these runs are of {', '.join(tasks) or 'none'}")
    task, digests = tasks[0], list(runs["digest"])
    doubled = sorted({digest for digest in digests if digests.count(digest) > 1})
    if doubled:
        raise UserError(f"records {', '.join(doubled)} of {task} appear twice; choose the rows of one variant")
    diverged = list(runs.loc[runs["diverged"].astype(bool), "digest"])
    if diverged:
        raise UserError(f"records {', '.join(diverged)} of {task} diverged and predict nothing; leave these runs out")
    logits, labels, ids = records.predictions(digests[0])
    stack = np.empty((len(digests), *logits.shape), dtype=np.float32)
    for i, digest in enumerate(digests):
        its_logits, its_labels, its_ids = records.predictions(digest)
        what = _difference((logits, labels, ids), (its_logits, its_labels, its_ids))
        if what:
            raise UserError(f"records {digests[0]} and {digest} of {task} have {what}; they cannot be compared")
        stack[i] = its_logits
    if not np.isfinite(stack).all():
        bad = digests[int(np.flatnonzero(~np.isfinite(stack).all(axis=(1, 2)))[0])]
        raise UserError(f"record {bad} of {task} has logits that are not finite; delete it and run it again")
    return Predictions(task, runs[[*LABEL, "digest"]].reset_index(drop=True), stack, labels, ids)


def pairs(found: Predictions) -> list[tuple[int, int, dict[str, object]]]:
    """The pairs of runs (i, j) that differ in the method or in the seed and not in both, with what tells them apart.

    That is kind ("same method" or "different methods"), one, two (methods), seed_one and seed_two.
    """
    rows = []
    for i, j in itertools.combinations(range(len(found)), 2):
        one, two = found.runs.iloc[i], found.runs.iloc[j]
        if (one["method"] == two["method"]) != (one["seed"] == two["seed"]):
            kind = SAME if one["method"] == two["method"] else DIFFERENT
            names = {"kind": kind, "one": one["method"], "two": two["method"]}
            rows.append((i, j, names | {"seed_one": one["seed"], "seed_two": two["seed"]}))
    if not rows:
        raise UserError(f"no two runs on {found.task} differ in the method or the seed alone; choose more runs")
    return rows


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (..., C)."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _difference(one: tuple, two: tuple) -> str:
    if one[0].shape != two[0].shape:
        return f"logits of different shapes, {one[0].shape} and {two[0].shape}"
    if one[2] != two[2]:
        return "other images, or the same in another order" if set(one[2]) == set(two[2]) else "other images"
    return "" if np.array_equal(one[1], two[1]) else "other labels of the same images"
