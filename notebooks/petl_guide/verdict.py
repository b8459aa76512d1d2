"""From numbers to a word: a check gives ``Evidence``, which is data, and only ``judged`` says what it comes to.

The order is fixed, and the first that holds decides: not run; a control fails; heterogeneous; equivalent; then the side
of the interval. It was registered before the runs that it judges were made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy import stats

from petl_core.utils import UserError

SUPPORTED, CONTRADICTED, EQUIVALENT, HETEROGENEOUS = "supported", "contradicted", "equivalent", "heterogeneous"
UNDECIDED, NOT_RUN, NOT_TESTABLE, TOLD = "undecided", "not run", "not testable", "told"
DECIDED = (SUPPORTED, CONTRADICTED, EQUIVALENT, HETEROGENEOUS)
FEWEST_TASKS = 5  # for a verdict over tasks
CLEARLY = 0.05  # the chance, over all units together, that noise alone puts one of them clearly beyond the margin
LEAST_APART = 2  # units clearly on either side, for "heterogeneous"
SHARE_APART = 0.15  # of the units, the same
SHARE_OUTSIDE = 0.25  # of the units, the same of a size that cannot be negative

Kind = Literal["better", "not worse", "alike"]


@dataclass(frozen=True)
class Control:
    """What has to hold for an effect to mean what it seems to: a number, its limit, and whether it keeps to it.

    ``value`` NaN: the runs that would give it were not made. ``handicapped``: where it fails, the handicaps of the
    evidence take its place, and it decides only where they leave no side.
    """

    name: str
    value: float
    limit: float
    passes: bool
    handicapped: bool = False

    @property
    def bars(self) -> bool:
        """Does it bar a word?"""
        return not (self.passes or self.handicapped)

    def __str__(self) -> str:
        return f"{self.name} " + ("not run" if math.isnan(self.value) else f"{self.value:.3g} (limit {self.limit:.3g})")


@dataclass(frozen=True)
class Estimate:
    """A mean with its intervals of 95 % and 90 % over ``n`` units; NaN ends where one unit gives none."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    low90: float = math.nan
    high90: float = math.nan
    n: int = 0

    def less(self, points: float) -> Estimate:
        """The same with so many points taken off."""
        low, high, low90, high90 = (end - points for end in (self.low, self.high, self.low90, self.high90))
        return Estimate(self.mean - points, low, high, low90, high90, self.n)


def half_intervals(error: float, freedom: float) -> tuple[float, float]:
    """Half of the 95 % and of the 90 % interval by Student: a standard error and its degrees of freedom."""
    wide, narrow = (float(stats.t.ppf(0.5 + level / 2, freedom)) * error for level in (0.95, 0.90))
    return wide, narrow


def over(effects: Mapping[str, float]) -> Estimate:
    """The mean of independent effects, with Student's intervals: mean ± t(n - 1) sd / sqrt(n)."""
    values = np.array(list(effects.values()), dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise UserError(f"an interval needs one finite number for each unit; it got {dict(effects)}")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Estimate(mean, n=1)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    wide, narrow = half_intervals(error, n - 1)
    return Estimate(mean, mean - wide, mean + wide, mean - narrow, mean + narrow, n)


def of_draws(mean: float, draws: np.ndarray, n: int) -> Estimate:
    """An estimate with percentiles of its resamples as intervals."""
    low, low90, high90, high = (float(end) for end in np.quantile(draws, [0.025, 0.05, 0.95, 0.975]))
    return Estimate(mean, low, high, low90, high90, n)


@dataclass(frozen=True)
class Evidence:
    """What a check computes.

    ``effects``: the effect on each of ``sample`` (tasks, unless said), in ``unit``; ``variances``: the noise of each.
    ``kind``: the claim is that the effect is above 0 ("better"), above -``margin`` ("not worse"), or, for a size that
    cannot be negative, below ``margin`` ("alike"). ``handicaps``: what a baseline might still gain on each, where its
    learning rates end too early; support must hold after they are taken off. ``estimate``, ``lessened``: effect without
    and with the handicaps, where they are not means of ``effects``. ``bounds``: intervals of 90 % for single
    units, of a size that cannot be negative. ``told``: what stands beside it, deciding nothing.
    """

    effects: Mapping[str, float] = field(default_factory=dict)
    unit: str = "points"
    kind: Kind = "better"
    margin: float = 2.0
    variances: Mapping[str, float] = field(default_factory=dict)
    handicaps: Mapping[str, float] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    sample: str = "tasks"
    estimate: Estimate | None = None
    lessened: Estimate | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    told: str = ""

    @property
    def effect(self) -> Estimate:
        """The effect over all units."""
        return self.estimate or over(self.effects)

    @property
    def less(self) -> Estimate:
        """The effect less the handicaps."""
        if self.lessened:
            return self.lessened
        if not self.handicaps:
            return self.effect
        return over({unit: value - self.handicaps.get(unit, 0.0) for unit, value in self.effects.items()})


@dataclass(frozen=True)
class Verdict:
    """The word on a claim, with the effect that it was said about and the interval that decided.

    ``reason``: why there is no side: the control that failed, with its number, or what was not run. ``parts``: the
    verdicts that it rests on, of single tasks or of a second effect.
    """

    verdict: str
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = ""
    sample: str = "tasks"
    kind: Kind = "better"
    margin: float = math.nan
    controls: tuple[Control, ...] = ()
    reason: str = ""
    told: str = ""
    profile: str = ""
    parts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """The effect with its interval, as text; empty where there is none."""
        if not math.isfinite(self.effect):
            return ""
        ends = f" [{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else ""
        return f"{self.effect:+.2f}{ends} {self.unit}, {self.n} {self.sample}"

    @property
    def threshold(self) -> float:
        """Of the effect: the claim is that it lies above it, or for "alike" below it."""
        return {"better": 0.0, "not worse": -self.margin, "alike": self.margin}[self.kind]

    @property
    def standardised(self) -> tuple[float, float, float]:
        """Effect and interval as distances from the threshold towards the claimed side, in units of the half of the
        interval that faces the threshold: beyond 1 the interval excludes it, whatever the unit was. NaN: no interval.
        """
        sign = -1.0 if self.kind == "alike" else 1.0
        effect, *ends = (sign * (value - self.threshold) for value in (self.effect, self.low, self.high))
        low, high = sorted(ends)
        half = effect - low if effect > 0 else high - effect
        if not (math.isfinite(half) and half > 0):
            return math.nan, math.nan, math.nan
        return effect / half, low / half, high / half

    @property
    def speaks_for(self) -> bool:
        """Does it speak for the claim? "Equivalent" does where the claim is "not worse", and against "better"."""
        return self.verdict == SUPPORTED or (self.verdict == EQUIVALENT and self.kind == "not worse")

    @property
    def speaks_against(self) -> bool:
        """Does it speak against the claim?"""
        return self.verdict == CONTRADICTED or (self.verdict == EQUIVALENT and not self.speaks_for)

    def __str__(self) -> str:
        said = "; ".join(part for part in (self.size, self.reason, self.told) if part)
        return f"{self.verdict}: {said}" if said else self.verdict


@dataclass(frozen=True)
class ByTask:
    """Evidence of single tasks, each judged for itself; one whose control fails is told and not counted.

    Heterogeneous where one task speaks for the claim and another contradicts it; else it takes ``fewest`` counted tasks
    that all say the same.
    """

    parts: Mapping[str, Evidence]
    fewest: int = 2


@dataclass(frozen=True)
class Balance:
    """Two effects of one claim (C13): ``curve``, what lies between curves at equal level, and ``top``, what lies
    between their tops. Ahead along the curve, or equivalent there and ahead at the top, supports it."""

    curve: Evidence
    top: Evidence


@dataclass(frozen=True)
class Elsewhere:
    """The verdicts of several claims here and in another place (C14): by claim, the pair of both."""

    pairs: Mapping[str, tuple[Verdict, Verdict]]
    fewest: int = 4  # claims that are decided in both places


Found = Evidence | ByTask | Balance | Elsewhere


def judged(found: Found) -> Verdict:
    """The verdict on what a check computed. This module alone turns numbers into a word."""
    if isinstance(found, ByTask):
        return _by_task(found)
    if isinstance(found, Balance):
        return _balance(found)
    if isinstance(found, Elsewhere):
        return _elsewhere(found)
    verdict = _stated(found)
    if barred := _failing(found, lambda control: control.bars):
        return replace(verdict, reason=barred)
    if found.sample == "tasks" and verdict.n < FEWEST_TASKS:
        return replace(verdict, reason=f"too few tasks: {verdict.n}, it takes {FEWEST_TASKS}")
    if heterogeneous(found):
        return replace(verdict, verdict=HETEROGENEOUS)
    word = EQUIVALENT if equivalent(found) else side(found)
    if word != UNDECIDED:
        return replace(verdict, verdict=word)
    if on_both_sides(found):
        return replace(verdict, verdict=HETEROGENEOUS)
    return replace(verdict, reason=_failing(found, lambda control: not control.passes))


def _failing(found: Evidence, which: Callable[[Control], bool]) -> str:
    """The controls of this kind, as a reason; empty where there are none."""
    failed = [str(control) for control in found.controls if which(control)]
    return f"control: {', '.join(failed)}" if failed else ""


def _stated(found: Evidence) -> Verdict:
    """The effect with the interval that decides, as yet without a side."""
    effect = found.effect
    low, high = (effect.low, effect.high) if found.kind == "better" else (effect.low90, effect.high90)
    n, unit, sample = effect.n, found.unit, found.sample
    verdict = Verdict(UNDECIDED, effect.mean, low, high, n, unit, sample, found.kind, found.margin)
    return replace(verdict, controls=found.controls, told=found.told)


def side(found: Evidence) -> str:
    """The word for the interval that decides: all of it on the claimed side, all of it on the other, or neither."""
    effect, less = found.effect, found.less
    if found.kind == "alike":
        claimed, other = effect.high90 < found.margin, effect.low90 > found.margin
    elif found.kind == "not worse":
        claimed, other = less.low90 > -found.margin, effect.high90 < -found.margin
    else:
        claimed, other = less.low > 0, effect.high < 0
    if claimed:
        return SUPPORTED
    return CONTRADICTED if other else UNDECIDED  # undecided also where there is no interval (NaN)


def equivalent(found: Evidence) -> bool:
    """Does the 90 % interval lie within the margin on both sides? Not asked of a size that cannot be negative."""
    inside = -found.margin < found.less.low90 and found.effect.high90 < found.margin
    return found.kind != "alike" and inside


def clear(found: Evidence) -> tuple[list[str], list[str]]:
    """The units clearly above +margin, and those clearly below -margin: by more than the noise of n comparisons."""
    n = len(found.variances)
    z = float(stats.norm.ppf(1 - CLEARLY / n)) if n else math.nan
    noise = {unit: z * math.sqrt(variance) for unit, variance in found.variances.items()}
    less = {unit: found.effects[unit] - found.handicaps.get(unit, 0.0) for unit in noise}
    above = [unit for unit in noise if less[unit] - noise[unit] > found.margin]
    return above, [unit for unit in noise if found.effects[unit] + noise[unit] < -found.margin]


def heterogeneous(found: Evidence) -> bool:
    """Does the effect clearly have one sign on some units and the other sign on others?"""
    enough = max(LEAST_APART, math.ceil(SHARE_APART * len(found.variances)))
    return found.kind != "alike" and all(len(units) >= enough for units in clear(found))


def on_both_sides(found: Evidence) -> bool:
    """Of a size that cannot be negative: is it surely below the margin on some units, and surely above it on others?"""
    below = sum(high < found.margin for _, high in found.bounds.values())
    above = sum(low > found.margin for low, _ in found.bounds.values())
    return bool(found.bounds) and min(below, above) >= SHARE_OUTSIDE * len(found.bounds)


def _by_task(found: ByTask) -> Verdict:
    verdicts = {task: judged(part) for task, part in found.parts.items()}
    counted = {task: one for task, one in verdicts.items() if not any(control.bars for control in one.controls)}
    first = next(iter(found.parts.values()))
    told = "; ".join(f"{task} {one}" for task, one in verdicts.items())
    verdict = Verdict(UNDECIDED, n=len(counted), unit=first.unit, kind=first.kind, margin=first.margin)
    verdict = replace(verdict, told=told, parts=verdicts)
    agreeing = [task for task, one in counted.items() if one.speaks_for]
    against = [task for task, one in counted.items() if one.verdict == CONTRADICTED]
    if agreeing and against:
        return replace(verdict, verdict=HETEROGENEOUS)
    if len(counted) < found.fewest:
        return replace(verdict, reason=f"too few tasks: {len(counted)} counted, it takes {found.fewest}")
    if len(agreeing) == len(counted):
        return replace(verdict, verdict=SUPPORTED)
    return replace(verdict, verdict=CONTRADICTED) if len(against) == len(counted) else verdict


def _balance(found: Balance) -> Verdict:
    verdict, top = _stated(found.curve), judged(found.top)
    told = "; ".join(part for part in (verdict.told, f"at the top {top.size}") if part)
    verdict = replace(verdict, told=told, parts={"top": top})
    if barred := _failing(found.curve, lambda control: control.bars):
        return replace(verdict, reason=barred)
    along, higher = side(found.curve), side(found.top) == SUPPORTED
    if along == SUPPORTED or (equivalent(found.curve) and higher):
        return replace(verdict, verdict=SUPPORTED)
    if along == CONTRADICTED:
        return replace(verdict, verdict=HETEROGENEOUS if higher else CONTRADICTED)
    return verdict


def _elsewhere(found: Elsewhere) -> Verdict:
    words = {claim: (here.verdict, there.verdict) for claim, (here, there) in found.pairs.items()}
    told = "; ".join(f"{claim} {here} here, {there} there" for claim, (here, there) in words.items())
    both = [claim for claim, pair in words.items() if all(word in DECIDED for word in pair)]
    verdict = Verdict(UNDECIDED, n=len(both), sample="claims", told=told)
    opposite = [
        claim
        for claim in both
        for one, other in (found.pairs[claim], found.pairs[claim][::-1])
        if one.verdict in (SUPPORTED, EQUIVALENT) and other.verdict == CONTRADICTED
    ]
    verdict = replace(verdict, effect=float(len(opposite)), unit="claims with opposite words")
    if len(both) < found.fewest:
        return replace(verdict, reason=f"too few claims decided in both: {len(both)}, it takes {found.fewest}")
    return replace(verdict, verdict={0: SUPPORTED, 1: HETEROGENEOUS}.get(len(opposite), CONTRADICTED))
