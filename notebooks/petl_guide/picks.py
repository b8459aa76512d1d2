"""Which method, from tuned runs: kinds of task by distance from the pre-training, and picks under constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from petl_core import methods as registry
from petl_core.study.statistics import Interval, interval
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.accuracy import scores
from petl_guide.low_shot import affinity
from petl_guide.results import Results

LOSS = 2.0  # points of accuracy that one may give up for a smaller model, where nothing else is said
NEAR, FAR, ALL = "near", "far", "all"


def tuned_runs(results: Results) -> pd.DataFrame:
    """The tuned final runs."""
    return select.runs(results.table, "tuned")


def distances(runs: pd.DataFrame) -> pd.Series:
    """How far each task is from the pre-training: full's gain on linear, or linear's error where full was not run."""
    table = scores(runs)
    if "linear" not in table:
        raise UserError("the distance of a task needs runs of linear probing")
    return affinity.distance(table["linear"], table.get("full")).sort_values()


def kind_of_task(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Tasks by kind: "all", each group, the nearer and the farther half (of an odd number the middle is in neither)."""
    found = {ALL: sorted(set(runs["task"]))}
    ordered = list(distances(runs).index)
    half = len(ordered) // 2
    if half:
        found |= {NEAR: ordered[:half], FAR: ordered[-half:]}
    for group in select.group_order(runs["group"]):
        found[group] = sorted(set(runs.loc[runs["group"] == group, "task"]))
    return found


@dataclass(frozen=True)
class Pick:
    """A method picked from tuned runs: its accuracy, parameters, difference to the best of all over tasks, runs."""

    method: str
    best: str
    accuracy: float
    params: float
    difference: Interval
    digests: frozenset[str]
    candidates: pd.DataFrame  # method, accuracy, params; those that were allowed, best first


def pick(
    runs: pd.DataFrame,
    goal: str = "accuracy",
    *,
    most: float | None = None,
    mergeable: bool = False,
    loss: float = LOSS,
    only: Sequence[str] | None = None,
) -> Pick:
    """The method for a goal among these runs.

    ``goal``: "accuracy" (highest mean over tasks) or "parameters" (fewest, at most ``loss`` points below the best that
    is allowed). Allowed are methods with at most ``most`` parameters, that merge if ``mergeable``, and in ``only``.
    Raises ``UserError`` if no method is left.
    """
    if goal not in ("accuracy", "parameters"):
        raise UserError(f"goal is {goal!r}; it is accuracy or parameters")
    table = scores(runs)
    frame = pd.DataFrame({"accuracy": table.mean(), "params": runs.groupby("method")["params"].mean()})
    best = str(frame["accuracy"].idxmax())
    fits = frame if most is None else frame[frame["params"] <= most]
    if mergeable:
        fits = fits[[registry.registry[method].mergeable for method in fits.index]]
    if only is not None:
        fits = fits[fits.index.isin(only)]
    if fits.empty:
        raise UserError("no method fits: allow more parameters, or methods that do not merge")
    fits = fits.sort_values("accuracy", ascending=False)
    method = str(fits.index[0])
    if goal == "parameters":
        method = str(fits.loc[fits["accuracy"] >= fits["accuracy"].iloc[0] - loss, "params"].idxmin())
    accuracy, params = (float(value) for value in frame.loc[method, ["accuracy", "params"]])
    candidates = fits.reset_index(names="method")
    return Pick(method, best, accuracy, params, gap(runs, method, best), digests(runs, method, best), candidates)


def gap(runs: pd.DataFrame, one: str, other: str) -> Interval:
    """Mean accuracy of one method minus another's, points, with an interval over tasks."""
    table = scores(runs)
    return interval((table[one] - table[other]).to_numpy())


def digests(runs: pd.DataFrame, *methods: str) -> frozenset[str]:
    """The digests of the runs of these methods."""
    return frozenset(runs.loc[runs["method"].isin(methods), "digest"])


def without_one(runs: pd.DataFrame, kind: str) -> dict[str, list[str]]:
    """Does one task decide what is ``recommended``? The method for these tasks less one, with the tasks left out."""
    found: dict[str, list[str]] = {}
    for task in sorted(set(runs["task"])):
        found.setdefault(recommended(runs[runs["task"] != task], kind).method, []).append(task)
    return found


def recommended(runs: pd.DataFrame, kind: str) -> Pick:
    """The method without a whole model for each task, on these tasks: near the pre-training the smallest (linear
    probing counts) within ``LOSS`` points of the best of them, far from it the most accurate."""
    peft = select.peft(runs["method"])
    return pick(runs, "parameters", only=[*peft, "linear"]) if kind == NEAR else pick(runs, only=peft)


def size_pays(runs: pd.DataFrame) -> pd.Series:
    """On each of these tasks: mean accuracy of the larger half of PEFT methods minus that of the smaller half."""
    peft = select.peft_rows(runs)
    params = peft.groupby("method")["params"].mean().sort_values()
    half = len(params) // 2
    if not half or runs["task"].nunique() < 2:
        raise UserError("small against large needs two PEFT methods and two tasks or more")
    table = scores(peft)
    larger, smaller = table[list(params.index[-half:])].mean(axis=1), table[list(params.index[:half])].mean(axis=1)
    return larger - smaller
