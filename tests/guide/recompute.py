"""Recompute C1a, C2, C3b, C6, C8b, C9 and C13 from records, written from the rules: none of the guide's code.

usage: recompute.py FOLDER

Prints, as JSON, for each claim the effect and its interval; of C9 by task, of C13 along the curve and at the top.
"""

from __future__ import annotations

import itertools
import json
import math
import sys

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.study.records import Records

NOT_OURS = ("selective", "vqt")  # no results of these were published
BASELINES = ("linear", "full")
Ends = list[float]


def student(values: np.ndarray, level: float) -> Ends:
    values = np.asarray(values, dtype=float)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return [float(values.mean()), float(values.mean() - half), float(values.mean() + half)]


class Runs:
    """The runs of some records, and the tuned ones of the study's methods."""

    def __init__(self, folder: str) -> None:
        self.records = Records(folder)
        table = self.records.table()
        table["task"] = [task.rpartition("/")[2] for task in table["task"]]
        table.loc[table["diverged"].astype(bool), "accuracy"] = 100 / table["classes"]
        self.table = table[~table["method"].isin(NOT_OURS)]
        self.tuned = self.part("tuned", "final")
        self.cells = self.tuned.pivot_table(index="task", columns="method", values="accuracy")
        self.peft = [name for name in self.cells if name not in BASELINES]

    def part(self, variant: str, stage: str) -> pd.DataFrame:
        return self.table[(self.table["variant"] == variant) & (self.table["stage"] == stage)]

    def with_logits(self):
        """Task by task: (method, seed) of the PEFT runs, logits (runs, n, C), labels (n,)."""
        for task, rows in self.tuned[self.tuned["method"].isin(self.peft)].groupby("task"):
            found = [self.records.predictions(digest) if self.records.get(digest)["predictions"] else None
                     for digest in rows["digest"]]  # fmt: skip
            if all(one is not None for one in found):
                keys = list(zip(rows["method"], rows["seed"], strict=True))
                yield str(task), keys, np.stack([one[0] for one in found]).astype(np.float32), found[0][1]


def c1a(runs: Runs) -> Ends:
    y = runs.cells[[name for name in runs.peft if name != "vpt_shallow"]].to_numpy()

    def theta(part: np.ndarray) -> float:
        tasks, methods = part.shape
        rest = part - part.mean(0) - part.mean(1)[:, None] + part.mean()
        noise = (rest**2).sum() / (tasks - 1) / (methods - 1) / tasks
        return math.log(1 + max(0.0, 2 * (part.mean(0).var(ddof=1) - noise)))

    n, whole = len(y), theta(y)
    pseudo = [n * whole - (n - 1) * theta(np.delete(y, task, 0)) for task in range(n)]
    half = stats.t.ppf(0.95, n - 1) * np.std(pseudo, ddof=1) / math.sqrt(n)
    return [math.sqrt(max(0.0, math.exp(value) - 1)) for value in (whole, whole - half, whole + half)]


def c2(runs: Runs) -> Ends:
    others = runs.cells[[name for name in runs.peft if name != "bitfit"]].median(axis=1)
    return student((runs.cells["bitfit"] - others).to_numpy(), 0.90)


def c3b(runs: Runs) -> Ends:
    return student((runs.cells[runs.peft].median(axis=1) - runs.cells["full"]).to_numpy(), 0.95)


def c6(runs: Runs) -> Ends:
    deltas = []
    for task, keys, logits, _ in runs.with_logits():
        says = dict(zip(keys, logits.argmax(2), strict=True))
        means = runs.cells.loc[task]
        pairs = [pair for pair in itertools.combinations(runs.peft, 2) if abs(means[pair[0]] - means[pair[1]]) <= 2]
        if len(pairs) < 3:
            continue

        def apart(a: str, b: str, says=says) -> float:
            seeds = sorted({seed for _, seed in says})
            return float(np.mean([(says[a, i] != says[b, j]).mean() for i in seeds for j in seeds if i != j]))

        one = np.mean([apart(name, name) for name in sorted({name for pair in pairs for name in pair})])
        deltas.append(100 * (np.mean([apart(*pair) for pair in pairs]) - one))
    return student(np.array(deltas), 0.95)


def validation(runs: Runs, variant: str) -> pd.DataFrame:
    trials = runs.part(variant, "trial")
    return trials[~trials["diverged"].astype(bool)]


def c8b(runs: Runs) -> Ends:
    best = validation(runs, "trial").groupby(["task", "method"])["accuracy"].max()
    deltas = []
    for task, keys, logits, labels in runs.with_logits():
        e = np.exp(logits - logits.max(2, keepdims=True))
        says = dict(zip(keys, e / e.sum(2, keepdims=True), strict=True))
        size = runs.tuned[runs.tuned["task"] == task].groupby("method")["params"].first()
        three = sorted(runs.peft, key=lambda name, task=task, size=size: (-best[task, name], size[name]))[:3]
        seeds = sorted({seed for _, seed in keys})[:3]

        def right(members: list, says=says, labels=labels) -> float:
            return 100 * float((np.mean([says[key] for key in members], axis=0).argmax(1) == labels).mean())

        methods = np.mean([right([(name, seed) for name in three]) for seed in seeds])
        deltas.append(methods - right([(three[0], seed) for seed in seeds]))
    return student(np.array(deltas), 0.95)


def c9(runs: Runs) -> dict[str, Ends]:
    finals, trials = runs.part("many_shot", "final"), validation(runs, "many_shot_trial")
    found = {}
    for task in sorted({name for name in finals["task"] if int(name.partition("@")[2] or 1000) > 1000}):
        mine = finals[finals["task"] == task]
        whole = mine.loc[mine["method"] == "full", "params"].max()
        small = mine[(mine["params"] <= 0.05 * whole) & ~mine["method"].isin(BASELINES)]
        val = trials[trials["task"] == task].groupby(["method", "hyper"])["accuracy"].max()
        cells = small.drop_duplicates(["method", "hyper"])
        keys = [(-val[m, h], p) for m, h, p in zip(cells["method"], cells["hyper"], cells["params"], strict=True)]
        top = cells.iloc[min(range(len(keys)), key=keys.__getitem__)]
        a, b = (rows.sort_values("seed")["accuracy"].to_numpy() for rows in (
            small[(small["method"] == top["method"]) & (small["hyper"] == top["hyper"])],
            mine[mine["method"] == "full"]))  # fmt: skip
        base = task.partition("@")[0]
        one = next(digest for digest in runs.tuned.loc[runs.tuned["task"] == base, "digest"])
        images = len(runs.records.predictions(one)[1])
        error = 100 * math.sqrt(sum(m / 100 * (1 - m / 100) for m in (a.mean(), b.mean())) / images)
        random = np.random.default_rng(0)
        drawn = (a - b)[random.integers(0, len(a), (2000, len(a)))].mean(1) + random.normal(0, error, 2000)
        found[base] = [float((a - b).mean()), *(float(end) for end in np.quantile(drawn, [0.05, 0.95]))]
    return found


def c13(runs: Runs) -> dict[str, Ends]:
    along, tops = [], []
    rows = runs.part("robustness_chosen", "final")
    for _, mine in rows.groupby("seed"):
        curves = {}
        for row in mine.itertuples():
            both = runs.records.get(row.digest)["measures"]["interpolation"]["both"]
            curves[row.method] = (both["test"], np.mean([both[name] for name in both if name != "test"], axis=0))
        small = [name for name in curves if name not in BASELINES]
        top = {name: max(target) for name, (target, _) in curves.items()}
        end, start = min(top["full"], max(top[name] for name in small)), curves["full"][0][0]
        gaps = []
        for level in [start + (end - start) * step / 10 for step in range(1, 10)]:
            at = {name: shift_at(*curves[name], level) for name in ("full", *small) if top[name] >= level}
            gaps.append(at.pop("full") - max(at.values()))
        along.append(np.mean(gaps))
        tops.append(top["full"] - max(top[name] for name in small))
    return {"curve": student(np.array(along), 0.95), "top": student(np.array(tops), 0.95)}


def shift_at(target: list[float], shift: np.ndarray, level: float) -> float:
    """Where the curve, from zero-shot on, first reaches the level."""
    for one, other, y, z in itertools.zip_longest(target, target[1:], shift, shift[1:]):
        if one >= level:
            return float(y)
        if other is not None and one < level <= other:
            return float(y + (level - one) / (other - one) * (z - y))
    raise ValueError(f"the curve does not reach {level}")


CLAIMS = {"C1a": c1a, "C2": c2, "C3b": c3b, "C6": c6, "C8b": c8b, "C9": c9, "C13": c13}

if __name__ == "__main__":
    runs = Runs(sys.argv[1])
    json.dump({number: compute(runs) for number, compute in CLAIMS.items()}, sys.stdout, indent=1)
