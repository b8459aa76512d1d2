"""From numbers to a word: a check gives ``Evidence``, and only ``judged`` says what it comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from petl_core.study.statistics import Interval

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_RUN, NOT_TESTABLE = "not run", "not testable"
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Control:
    """What has to hold for an effect to mean what it seems to: a number, its limit, and whether it keeps to it."""

    name: str
    value: float
    limit: float
    passes: bool


@dataclass(frozen=True)
class Evidence:
    """What a check computes: ``effect`` in ``unit``, with its 95 % interval over ``effect.n`` of ``sample``.

    The claim is that the effect lies above ``margin``, or below it where ``below``. ``control`` says in words what the
    effect was compared with; ``controls`` are the numbers on which that comparison stands.
    """

    effect: Interval = NOTHING
    unit: str = ""
    control: str = ""
    controls: tuple[Control, ...] = ()
    margin: float = 0.0
    below: bool = False
    sample: str = "tasks"
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """``effect`` with the ends of its 95 % interval, in ``unit``, over ``n`` of ``sample``.

    ``control`` says what the effect was compared with; ``behaves`` is False where that control is missing or failed,
    and then the verdict is undecided whatever the interval.
    """

    verdict: str
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    n: int = 0
    sample: str = "tasks"
    control: str = ""
    behaves: bool = True
    note: str = ""
    profile: str = ""
    threshold: float = 0.0  # of the effect: the claim is that it lies above it, or below it where ``below``
    below: bool = False

    @property
    def size(self) -> str:
        """The effect with its interval, as text; empty where there is none."""
        if not math.isfinite(self.effect):
            return ""
        ends = f" [{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else ""
        return f"{self.effect:+.2f}{ends} {self.unit}, {self.n} {self.sample}"

    @property
    def standardised(self) -> tuple[float, float, float]:
        """Effect and interval as distances from the threshold towards the claimed side, in units of the half of the
        interval that faces the threshold: beyond 1 the interval excludes it, whatever the unit was. NaN: no interval.
        """
        sign = -1.0 if self.below else 1.0
        effect, *ends = (sign * (value - self.threshold) for value in (self.effect, self.low, self.high))
        low, high = sorted(ends)
        half = effect - low if effect > 0 else high - effect
        if not (math.isfinite(half) and half > 0):
            return math.nan, math.nan, math.nan
        return effect / half, low / half, high / half

    @property
    def summary(self) -> str:
        """The word and the effect."""
        return f"{self.verdict}: {self.size}" if self.size else self.verdict

    def __str__(self) -> str:
        said = "; ".join(part for part in (self.size, self.control, self.note) if part)
        return f"{self.verdict}: {said}" if said else self.verdict


def side(low: float, high: float, margin: float = 0.0, *, below: bool = False) -> str:
    """The word for an interval: all of it on the claimed side of the margin, all on the other side, or neither."""
    if low > margin:
        return CONTRADICTED if below else SUPPORTED
    if high < margin:
        return SUPPORTED if below else CONTRADICTED
    return UNDECIDED  # also where there is no interval (NaN)


def judged(found: Evidence) -> Verdict:
    """The verdict on what a check computed: by the side of its interval if every control passes, else undecided."""
    effect, behaves = found.effect, all(control.passes for control in found.controls)
    return Verdict(
        side(effect.low, effect.high, found.margin, below=found.below) if behaves else UNDECIDED,
        effect.mean,
        effect.low,
        effect.high,
        found.unit,
        effect.n,
        found.sample,
        found.control,
        behaves,
        found.note,
        threshold=found.margin,
        below=found.below,
    )
