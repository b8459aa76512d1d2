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
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True)
class Pair:
    """A run that both folders have. ``difference``: accuracy here minus there, in points; infinite if one diverged."""

    digest: str
    method: str
    task: str
    seed: int
    stage: str
    kind: str
    difference: float
    half: float  # half of the width of its interval, points
    promised: bool  # equal processors and versions: bits must be equal
    here: float  # accuracy, %
    there: float

    def __str__(self) -> str:
        name = f"{self.digest} {self.method} on {self.task}, seed {self.seed}, {self.stage}"
        if not math.isfinite(self.difference):
            return f"{name}: diverged in one of them only"
        return f"{name}: {self.difference:+.2f} points, interval +-{self.half:.2f}"


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
        whose = f"{self.method}, {self.n} {STAGES[self.stage]}"
        return f"{whose}: {self.mean:+.2f} points [{self.low:+.2f}, {self.high:+.2f}], p = {self.p:.2g}"


@dataclass(frozen=True)
class Agreement:
    """Every pair of runs; digests of runs that only the fresh folder has, and of wanted runs that it lacks."""

    pairs: tuple[Pair, ...]
    alone: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def of_kind(self, *kinds: str) -> list[Pair]:
        """The pairs of these kinds."""
        return [pair for pair in self.pairs if pair.kind in kinds]

    @functools.cached_property
    def chance(self) -> float:
        """The probability that chance puts as many runs outside their intervals, or more."""
        tried, outside = len(self.of_kind(WITHIN, OUTSIDE)), len(self.of_kind(OUTSIDE))
        return float(stats.binom.sf(outside - 1, tried, 1 - COVERED)) if tried else 1.0

    @functools.cached_property
    def shifts(self) -> list[Shift]:
        """The mean difference of each method in each stage, the least probable first."""
        found = [shift for stage in STAGES for shift in _shifts(self._differences(stage), stage)]
        return sorted(found, key=lambda shift: (shift.p, -abs(shift.mean)))

    def overall(self, stage: str) -> Shift | None:
        """The mean difference of all runs of a stage; None for fewer than two."""
        every = [value for values in self._differences(stage).values() for value in values]
        return next(iter(_shifts({"all methods": every}, stage)), None)

    def _differences(self, stage: str) -> dict[str, list[float]]:
        groups: dict[str, list[float]] = {}
        for pair in self.pairs:
            if pair.stage == stage and math.isfinite(pair.difference):
                groups.setdefault(pair.method, []).append(pair.difference)
        return groups

    @functools.cached_property
    def order(self) -> tuple[float, int]:
        """Kendall's tau between the methods' mean accuracies here and there, and the number of methods; NaN below 3.

        Means of the final runs on those tasks that all methods have, each task counting once.
        """
        finals = [pair for pair in self.pairs if pair.stage == "final" and math.isfinite(pair.here + pair.there)]
        tasks_of: dict[str, set[str]] = {}
        for pair in finals:
            tasks_of.setdefault(pair.method, set()).add(pair.task)
        shared = set.intersection(*tasks_of.values()) if tasks_of else set()
        if len(tasks_of) < 3 or not shared:
            return math.nan, len(tasks_of)
        means = []
        for method in tasks_of:
            cells = [[p for p in finals if (p.method, p.task) == (method, task)] for task in sorted(shared)]
            here = statistics.fmean(statistics.fmean(p.here for p in cell) for cell in cells)
            there = statistics.fmean(statistics.fmean(p.there for p in cell) for cell in cells)
            means.append((here, there))
        return float(stats.kendalltau(*zip(*means, strict=True)).statistic), len(means)

    @functools.cached_property
    def faults(self) -> list[str]:
        """Why these records do not agree with those; empty if they do."""
        found = []
        if not self.pairs:
            found.append("no run is in both folders: they belong to other profiles, data or weights")
        if self.missing:
            found.append(f"{len(self.missing)} runs are missing: {', '.join(self.missing[:SHOWN])}")
        if self.chance < LEVEL:
            found.append(f"{len(self.of_kind(OUTSIDE))} runs outside their intervals are more than chance gives")
        found += [f"a shift beyond chance: {shift}" for shift in self.shifts if shift.p < LEVEL]
        return found

    def report(self) -> str:
        """What was found and what it comes to, in lines for a reader."""
        lines = [f"{len(self.pairs)} runs compared"]
        if self.alone:
            lines.append(f"{len(self.alone)} more are only here: another setting won the trials there, or none ran")
        if self.pairs:
            lines += [*self._kinds(), *self._bits(), *self._means()]
        verdict = "they do NOT agree" if self.faults else "they agree: what differs is no more than chance gives"
        if self.pairs and len(self.of_kind(BITS)) == len(self.pairs) and not self.faults:
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
        shown = [kind for kind in meaning if self.of_kind(kind) or (kind == OUTSIDE and tried)]
        lines = [f"{len(self.of_kind(kind)):>6} {kind}: {meaning[kind]}" for kind in shown]
        lines += [f"       outside: {pair}" for pair in outside[:SHOWN]]
        if len(outside) > SHOWN:
            lines.append(f"       and {len(outside) - SHOWN} more outside")
        return lines

    def _bits(self) -> list[str]:
        promised = [pair for pair in self.pairs if pair.promised]
        broken = [pair for pair in promised if pair.kind != BITS]
        text = "equal bits are promised where processor and versions are those of the record: "
        if not promised:
            return [f"{text}of none of these"]
        return [f"{text}of {len(promised)} of these" + (f", and {len(broken)} have OTHER bits" if broken else "")]

    def _means(self) -> list[str]:
        lines = []
        for stage, name in STAGES.items():
            if (shift := self.overall(stage)) is not None:
                text = f"{shift.mean:+.2f} points [{shift.low:+.2f}, {shift.high:+.2f}] over {shift.n} {name}"
                lines.append(f"mean difference, here minus there: {text}")
        if self.shifts and self.of_kind(WITHIN, OUTSIDE):
            lines.append(f"least probable of {len(self.shifts)} groups of runs: {self.shifts[0]}")
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
    pairs = tuple(_pair(digest, fresh, shipped, deviations) for digest in common)
    alone = tuple(digest for digest in there if not shipped.has(digest))
    return Agreement(pairs, alone, tuple(sorted(set(wanted) - set(there))))


def _pair(digest: str, fresh: Records, shipped: Records, deviations: dict[str, float]) -> Pair:
    ours, theirs = fresh.get(digest), shipped.get(digest)
    spec, a, b = ours["spec"], ours["metrics"]["accuracy"], theirs["metrics"]["accuracy"]
    variance = deviations.get(spec["task"], deviations.get("", 0.0)) ** 2
    if ours["stage"] == "trial" and b is not None:
        variance += b * (100.0 - b) / 200
    half = float(stats.norm.ppf(0.5 + COVERED / 2)) * math.sqrt(2.0 * variance)
    here, there = (math.nan if value is None else value for value in (a, b))
    if a is None and b is None:
        difference = 0.0
    else:
        difference = math.inf if a is None or b is None else a - b
    if a == b and ours["logits_sha256"] == theirs["logits_sha256"]:
        kind = BITS
    elif _equal_answers(digest, fresh, shipped):
        kind = ANSWERS
    else:
        kind = WITHIN if abs(difference) <= half else OUTSIDE
    promised = bits_promised(ours["environment"], theirs["environment"])
    names = (digest, spec["method"], spec["task"], spec["seed"], ours["stage"])
    return Pair(*names, kind, difference, half, promised, here, there)


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


def _shifts(groups: dict[str, list[float]], stage: str) -> list[Shift]:
    """The mean of each group of at least two differences (points), with interval and p, corrected for their number.

    The scatter of a difference is the group's own standard deviation or, if larger, the median group's: so neither a
    few runs that agree by accident nor one that went astray make a mean look surer than it is.
    """
    judged = {name: np.asarray(values) for name, values in groups.items() if len(values) > 1}
    if not judged:
        return []
    own = {name: float(values.std(ddof=1)) for name, values in judged.items()}
    usual, freedom = max(LEAST, statistics.median(own.values())), sum(map(len, judged.values())) - len(judged)
    found = []
    for name, values in judged.items():
        n, mean = len(values), float(values.mean())
        error = max(own[name], usual) / math.sqrt(n)
        degrees = n - 1 if own[name] > usual else freedom
        half = float(stats.t.ppf(0.5 + COVERED / 2, degrees)) * error
        p = min(1.0, len(judged) * len(STAGES) * 2 * float(stats.t.sf(abs(mean) / error, degrees)))
        found.append(Shift(name, stage, n, mean, mean - half, mean + half, p))
    return found


def seed_deviations(records: Records) -> dict[str, float]:
    """Standard deviation between seeds by task, pooled over configurations; key "" pools over all tasks."""
    groups: dict[tuple[str, str], list[float]] = {}
    for digest in records.digests():
        record = records.get(digest)
        if record["stage"] == "final" and record["metrics"]["accuracy"] is not None:
            spec = {key: value for key, value in record["spec"].items() if key != "seed"}
            key = (spec["task"], json.dumps(spec, sort_keys=True))
            groups.setdefault(key, []).append(record["metrics"]["accuracy"])
    pooled: dict[str, list[float]] = {}
    for (task, _), values in groups.items():
        if len(values) > 1:
            for name in (task, ""):
                pooled.setdefault(name, []).append(statistics.variance(values))
    return {task: math.sqrt(statistics.fmean(variances)) for task, variances in pooled.items()}
