"""Do these records agree with those? One judgement over all runs that both folders have.

Equal specs give equal bits on equal processors with equal versions. Elsewhere sums are rounded in another order, and
training magnifies that: a run ends as it might have with another seed, at worst. So each run is put into one of four
kinds, and what does not agree to the bit is judged together, against what chance gives:

- how many runs lie outside their 95 % intervals: a binomial tail, as one in twenty may;
- whether a method's runs are shifted as a whole, which may stay inside all intervals: a t test on the mean of its
  differences, corrected for the number of methods tried (Bonferroni).

Either is beyond chance below p = 0.001 (``LEVEL``).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from petl_core.study.environment import bits_promised
from petl_core.study.records import Records

BITS, ANSWERS, WITHIN, OUTSIDE = "equal to the bit", "equal answers, other bits", "within its interval", "outside it"
LEVEL = 0.001  # of the judgement; below it, a difference is not put down to chance
COVERED = 0.95  # share of runs that the intervals hold by chance
# Outputs that differ by at most this move no class's probability by more than 0.01. With limited instruction sets, 76
# runs of 76 differed by at most 0.004, which is one step of the float16 numbers between 4 and 8 in which they are kept.
TOLERANCE = 0.02
LEAST = 0.5  # points; a smaller scatter of a method's differences is taken for this: few runs may agree by accident
STAGES = {"final": "final runs", "trial": "trials"}
SHOWN = 10  # runs outside their intervals that are named
# Of a pair: accuracies in %, their difference in points (infinite if one diverged), half of its interval's width, and
# whether processors and versions are equal, so that bits must be.
PAIR = ["digest", "method", "task", "seed", "stage", "kind", "difference", "half", "promised", "here", "there"]


@dataclass(frozen=True)
class Shift:
    """The mean difference of a group of runs with its 95 % interval in points, and its p after correction."""

    method: str
    stage: str
    n: int
    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} points [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Agreement:
    """A row of ``pairs`` (columns ``PAIR``) for each run that both folders have; digests of runs that only the fresh
    folder has, and of wanted runs that it lacks."""

    pairs: pd.DataFrame
    alone: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def of_kind(self, *kinds: str) -> pd.DataFrame:
        """The pairs of these kinds."""
        return self.pairs[self.pairs["kind"].isin(kinds)]

    @functools.cached_property
    def chance(self) -> float:
        """The probability that chance puts as many runs outside their intervals, or more."""
        tried, outside = len(self.of_kind(WITHIN, OUTSIDE)), len(self.of_kind(OUTSIDE))
        return float(stats.binom.sf(outside - 1, tried, 1 - COVERED)) if tried else 1.0

    @functools.cached_property
    def shifts(self) -> list[Shift]:
        """The mean difference of each method in each stage, the least probable first."""
        found = [shift for stage in STAGES for shift in _shifts(self._of_stage(stage), stage, "method")]
        return sorted(found, key=lambda shift: (shift.p, -abs(shift.mean)))

    def _of_stage(self, stage: str) -> pd.DataFrame:
        """The runs of a stage that diverged in neither folder."""
        return self.pairs[(self.pairs["stage"] == stage) & np.isfinite(self.pairs["difference"].astype(float))]

    @functools.cached_property
    def order(self) -> tuple[float, int]:
        """Kendall's tau between the methods' mean accuracies here and there, and the number of methods; NaN below 3.

        Means of the final runs on those tasks that all methods have, each task counting once.
        """
        finals = self._of_stage("final").dropna(subset=["here", "there"])
        means = finals.pivot_table(index="method", columns="task", values=["here", "there"]).dropna(axis=1)
        if len(means) < 3 or means.empty:
            return math.nan, finals["method"].nunique()
        here, there = means["here"].mean(axis=1), means["there"].mean(axis=1)
        return float(stats.kendalltau(here, there).statistic), len(means)

    @functools.cached_property
    def faults(self) -> list[str]:
        """Why these records do not agree with those; empty if they do."""
        found = []
        if self.pairs.empty:
            found.append("no run is in both folders: they belong to other profiles, data or weights")
        if self.missing:
            found.append(f"{len(self.missing)} runs are missing: {', '.join(self.missing[:SHOWN])}")
        if self.chance < LEVEL:
            found.append(f"{len(self.of_kind(OUTSIDE))} runs outside their intervals are more than chance gives")
        return found + [f"a shift beyond chance: {_named(shift)}" for shift in self.shifts if shift.p < LEVEL]

    def report(self) -> str:
        """What was found and what it comes to, in lines for a reader."""
        lines = [f"{len(self.pairs)} runs compared"]
        if self.alone:
            lines.append(f"{len(self.alone)} more are only here: another setting won the trials there, or none ran")
        if len(self.pairs):
            lines += [*self._kinds(), self._bits(), *self._means()]
        verdict = "they do NOT agree" if self.faults else "they agree: what differs is no more than chance gives"
        if len(self.of_kind(BITS)) == len(self.pairs) and not self.faults:
            verdict = "they agree to the bit"
        return "\n".join([*lines, f"judgement: {verdict}", *(f"  {fault}" for fault in self.faults)])

    def _kinds(self) -> list[str]:
        tried, outside = len(self.of_kind(WITHIN, OUTSIDE)), self.of_kind(OUTSIDE)
        meaning = {
            BITS: "accuracy and every output",
            ANSWERS: f"every image in the same class, or outputs within {TOLERANCE:g} (none kept: as many right)",
            WITHIN: "no further off than another seed would be in 95 cases of 100",
            OUTSIDE: f"chance gives about {(1 - COVERED) * tried:.0f} of {tried}; p = {self.chance:.2g} for so many",
        }
        counts = {kind: len(self.of_kind(kind)) for kind in meaning}
        shown = [kind for kind in meaning if counts[kind] or (kind == OUTSIDE and tried)]
        lines = [f"{counts[kind]:>6} {kind}: {meaning[kind]}" for kind in shown]
        for pair in outside[:SHOWN].itertuples():
            name = f"{pair.digest} {pair.method} on {pair.task}, seed {pair.seed}, {pair.stage}"
            by = "diverged in one of them only"
            if math.isfinite(pair.difference):
                by = f"{pair.difference:+.2f} points, interval +-{pair.half:.2f}"
            lines.append(f"       outside: {name}: {by}")
        if len(outside) > SHOWN:
            lines.append(f"       and {len(outside) - SHOWN} more outside")
        return lines

    def _bits(self) -> str:
        promised = self.pairs[self.pairs["promised"].astype(bool)]
        broken = (promised["kind"] != BITS).sum()
        text = "equal bits are promised where processor and versions are those of the record: of"
        return f"{text} {len(promised)} of these" + (f", and {broken} have OTHER bits" if broken else "")

    def _means(self) -> list[str]:
        lines = []
        for stage, name in STAGES.items():
            for shift in _shifts(self._of_stage(stage).assign(all="all"), stage, "all"):
                lines.append(f"mean difference, here minus there: {shift} over {shift.n} {name}")
        if self.shifts and len(self.of_kind(WITHIN, OUTSIDE)):
            lines.append(f"least probable of {len(self.shifts)} groups of runs: {_named(self.shifts[0])}")
        tau, methods = self.order
        if math.isfinite(tau):
            lines.append(f"order of the {methods} methods by accuracy: Kendall's tau {tau:.2f} (1: the same order)")
        return lines


def agreement_of(fresh: Records, shipped: Records, wanted: Iterable[str] = ()) -> Agreement:
    """Compare every fresh record with the shipped record of the same digest; ``wanted``: digests that must be there.

    The interval of a run is 1.96 sqrt(2) s around the shipped accuracy: s is the standard deviation between seeds of
    the shipped final runs of that task, pooled over configurations (of all tasks where a task has no repeated runs).
    Trials, which have one seed and 200 images, add the sampling variance p (1 - p) / n of their accuracy.
    """
    deviations = seed_deviations(shipped)
    there = fresh.digests()
    common = [digest for digest in there if shipped.has(digest)]
    common.sort(key=lambda digest: (shipped.get(digest)["spec"]["task"], digest))  # packs keep one task's outputs open
    pairs = pd.DataFrame([_pair(digest, fresh, shipped, deviations) for digest in common], columns=PAIR)
    alone = tuple(digest for digest in there if not shipped.has(digest))
    return Agreement(pairs, alone, tuple(sorted(set(wanted) - set(there))))


def _pair(digest: str, fresh: Records, shipped: Records, deviations: dict[str, float]) -> tuple[Any, ...]:
    ours, theirs = fresh.get(digest), shipped.get(digest)
    spec = ours["spec"]
    accuracies = ours["metrics"]["accuracy"], theirs["metrics"]["accuracy"]
    here, there = (math.nan if value is None else value for value in accuracies)
    variance = deviations.get(spec["task"], deviations.get("", 0.0)) ** 2
    if ours["stage"] == "trial" and not math.isnan(there):
        variance += there * (100.0 - there) / 200
    half = float(stats.norm.ppf(0.5 + COVERED / 2)) * math.sqrt(2.0 * variance)
    difference = here - there
    if None in accuracies:
        difference = 0.0 if accuracies == (None, None) else math.inf
    if difference == 0.0 and ours["logits_sha256"] == theirs["logits_sha256"]:
        kind = BITS
    elif _equal_answers(digest, fresh, shipped):
        kind = ANSWERS
    else:
        kind = WITHIN if abs(difference) <= half else OUTSIDE
    promised = bits_promised(ours["environment"], theirs["environment"])
    names = digest, spec["method"], spec["task"], spec["seed"], ours["stage"]
    return *names, kind, difference, half, promised, here, there


def _equal_answers(digest: str, fresh: Records, shipped: Records) -> bool:
    """Every image in the same class, or nearly equal outputs; where outputs are not kept, as many right, in training
    too."""
    ours, theirs = fresh.get(digest), shipped.get(digest)
    if not (ours["predictions"] and theirs["predictions"]):
        return all(ours["metrics"][key] == theirs["metrics"][key] for key in ("accuracy", "train_accuracy"))
    (one, labels, ids), (other, its_labels, its_ids) = fresh.predictions(digest), shipped.predictions(digest)
    if one.shape != other.shape or ids != its_ids or not np.array_equal(labels, its_labels):
        return False
    if np.array_equal(one.argmax(axis=1), other.argmax(axis=1)):
        return bool(ours["metrics"]["accuracy"] == theirs["metrics"]["accuracy"])
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).max()) <= TOLERANCE


def _shifts(pairs: pd.DataFrame, stage: str, by: str) -> list[Shift]:
    """The mean of each group of at least two differences (points), with interval and p, corrected for their number.

    The scatter of a difference is the group's own standard deviation or, if larger, the median group's: so neither a
    few runs that agree by accident nor one that went astray make a mean look surer than it is.
    """
    groups = pairs["difference"].astype(float).groupby(pairs[by]).agg(["size", "mean", "std"]).query("size > 1")
    usual, freedom = max(LEAST, groups["std"].median()), int((groups["size"] - 1).sum())
    found = []
    for name, n, mean, own in groups.itertuples():
        error = max(own, usual) / math.sqrt(n)
        degrees = n - 1 if own > usual else freedom
        half = float(stats.t.ppf(0.5 + COVERED / 2, degrees)) * error
        p = min(1.0, len(groups) * len(STAGES) * 2 * float(stats.t.sf(abs(mean) / error, degrees)))
        found.append(Shift(name, stage, n, mean, mean - half, mean + half, p))
    return found


def _named(shift: Shift) -> str:
    return f"{shift.method}, {shift.n} {STAGES[shift.stage]}: {shift}, p = {shift.p:.2g}"


def seed_deviations(records: Records) -> dict[str, float]:
    """Standard deviation between seeds by task, pooled over configurations; key "" pools over all tasks."""
    rows = []
    for digest in records.digests():
        record = records.get(digest)
        if record["stage"] == "final" and record["metrics"]["accuracy"] is not None:
            setting = json.dumps({**record["spec"], "seed": 0}, sort_keys=True)
            rows.append((record["spec"]["task"], setting, record["metrics"]["accuracy"]))
    finals = pd.DataFrame(rows, columns=["task", "setting", "accuracy"])
    variances = finals.groupby(["task", "setting"])["accuracy"].var().dropna()
    pooled = variances.groupby("task").mean() ** 0.5
    return {**pooled.to_dict(), **({"": float(variances.mean() ** 0.5)} if len(variances) else {})}
