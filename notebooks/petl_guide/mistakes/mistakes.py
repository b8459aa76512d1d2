"""The study's second finding, task by task: other methods, other mistakes; and what ensembles gain from it.

Everything is set beside the same measure between runs that differ in the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from petl_core.study import predictions
from petl_core.study.predictions import DIFFERENT, SAME, Predictions
from petl_core.study.records import Records
from petl_core.study.statistics import Interval, interval
from petl_core.utils import UserError
from petl_guide.mistakes import agreement, confidence, ensembles

NEAR = 3.0  # points below a task's best method that count as similar accuracy
HOLD = 200 * 2**20  # bytes of logits beyond which tasks are not kept


class Tasks(Mapping[str, Predictions]):
    """The predictions of each task, read when they are asked for and kept while all together take ``HOLD`` or less.

    So a study of any number of tasks can be analysed in the memory of one: go through it once (``everything``).
    """

    def __init__(self, records: Records, runs: Mapping[str, pd.DataFrame]) -> None:
        self._records, self._runs = records, runs
        self._held: dict[str, Predictions] = {}

    def __getitem__(self, task: str) -> Predictions:
        if task not in self._held:
            runs = self._runs[task]
            if sum(part.logits.nbytes for part in self._held.values()) > HOLD:
                self._held.clear()  # before the next is read
            self._held[task] = predictions.load(self._records, runs)
        return self._held[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)


def load(records: Records, runs: pd.DataFrame) -> Mapping[str, Predictions]:
    """The predictions of these final runs, by task. A method with a diverged run on a task is left out there."""
    wanted = {}
    for task, part in runs.groupby("task", sort=False):
        failed = set(part.loc[part["diverged"].astype(bool), "method"])
        wanted[str(task)] = part[~part["method"].isin(failed)]
    if not wanted:
        raise UserError("there are no runs to compare predictions of; run the study first")
    return Tasks(records, wanted)


def everything(found: Mapping[str, Predictions], size: int = 3) -> dict[str, pd.DataFrame]:
    """``disagreement``, ``overlaps``, ``ensemble_gains`` and ``equal_sizes`` (of ``size``), task after task."""
    measures: dict[str, Callable[[Mapping[str, Predictions]], pd.DataFrame]] = {
        "disagreement": disagreement,
        "overlaps": overlaps,
        "ensemble_gains": ensemble_gains,
        "equal_sizes": lambda one: equal_sizes(one, size),
    }
    rows = [{name: measure({task: part}) for name, measure in measures.items()} for task, part in found.items()]
    return {name: pd.concat([row[name] for row in rows], ignore_index=True) for name in measures}


def disagreement(found: Mapping[str, Predictions]) -> pd.DataFrame:
    """A row for each task: mean disagreement of different methods and of other seeds, in per cent of images.

    Columns task, between, within, difference, p (permutation test), unrelated (what runs of these accuracies would show
    if their mistakes had nothing to do with each other), kappa_between, kappa_within.
    """
    rows = []
    for task, part in found.items():
        pairs, test = agreement.pairs(part), agreement.excess(part)
        methods, seeds = (pairs[pairs["kind"] == kind] for kind in (DIFFERENT, SAME))
        between, within = methods["disagreement"].mean(), seeds["disagreement"].mean()
        kappas = methods["kappa"].mean(), seeds["kappa"].mean()
        rows.append((task, between, within, between - within, test.p, methods["expected"].mean(), *kappas))
    columns = ["task", "between", "within", "difference", "p", "unrelated", "kappa_between", "kappa_within"]
    return pd.DataFrame(rows, columns=columns)


def alike(part: Predictions, points: float) -> Predictions:
    """Only the methods whose accuracy (mean over seeds) is within ``points`` of the best one's."""
    means = ensembles.of_methods(part)
    return part.of(list(means[means >= means.max() - points].index))


def near(found: Mapping[str, Predictions], methods: int = 2) -> dict[str, Predictions]:
    """``alike`` within ``NEAR`` points, on the tasks where this leaves so many methods or more."""
    close = {task: alike(part, NEAR) for task, part in found.items()}
    return {task: part for task, part in close.items() if part.runs["method"].nunique() >= methods}


def two_names(found: Mapping[str, Predictions], few: int = 3) -> pd.DataFrame:
    """A control in which there is nothing to find: one method's first two seeds and its next two, as if two methods.

    Columns task, method, seeds, "first seeds" and "all seeds" (disagreement between the first ``few`` and between all
    seeds, in per cent) and "two names" (disagreement of the pretended methods minus that within them, in points).
    """
    rows = []
    for task, part in found.items():
        for method in dict.fromkeys(part.runs["method"]):
            alone = part.of([method])
            if len(alone) < 4:
                raise UserError(f"{method} on {task} has {len(alone)} seeds; two pretended methods need four or more")
            apart = 100 - agreement.agreement(alone.classes)
            pairs = apart[np.triu_indices(len(apart), 1)].mean()
            first = apart[:few, :few][np.triu_indices(few, 1)].mean()
            names = apart[:2, 2:4].mean() - (apart[0, 1] + apart[2, 3]) / 2
            rows.append((task, method, len(alone), first, pairs, names))
    return pd.DataFrame(rows, columns=["task", "method", "seeds", "first seeds", "all seeds", "two names"])


def overlaps(found: Mapping[str, Predictions], share: float = 0.5) -> pd.DataFrame:
    """Mean overlap of the confident-correct and the unconfident-wrong sets: of methods, of seeds, and of chance.

    ``share`` of the images is taken for each set before the right (wrong) ones are kept. Columns task, which, methods,
    seeds, chance (all in per cent of the smaller set) and difference (methods minus seeds).
    """
    rows = []
    for task, part in found.items():
        n = max(1, round(share * len(part.labels)))
        for which in ("confident_correct", "unconfident_wrong"):
            pairs = confidence.pairs(part, n, which)
            kinds = pairs.groupby("kind")[["shared", "chance"]].mean()
            methods, seeds = kinds.loc[DIFFERENT, "shared"], kinds.loc[SAME, "shared"]
            rows.append((task, which, methods, seeds, kinds.loc[DIFFERENT, "chance"], methods - seeds))
    return pd.DataFrame(rows, columns=["task", "which", "methods", "seeds", "chance", "difference"])


def ensemble_gains(found: Mapping[str, Predictions], how: str = "logit") -> pd.DataFrame:
    """A row for each task: ``ensembles.summary``, in per cent."""
    return pd.DataFrame([{"task": task, **ensembles.summary(part, how)} for task, part in found.items()])


def equal_sizes(found: Mapping[str, Predictions], size: int = 3, how: str = "logit") -> pd.DataFrame:
    """A row for each task: mean accuracy of ensembles of ``size`` methods, of ``size`` seeds, and of their members."""
    rows = []
    for task, part in found.items():
        table = ensembles.same_size(part, size, how).groupby("kind")[["single", "accuracy"]].mean()
        gains = table["accuracy"] - table["single"]
        single, seeds = table.loc["seeds"]
        rows.append((task, single, seeds, table.loc["methods", "accuracy"], gains["methods"] - gains["seeds"]))
    return pd.DataFrame(rows, columns=["task", "single", "seeds", "methods", "difference"])


def over_tasks(effect: pd.Series | np.ndarray) -> Interval:
    """The mean of one number for each task, with its t interval over tasks."""
    return interval(np.asarray(effect, dtype=float))
