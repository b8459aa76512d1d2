"""A verdict on a claim: a word, the effect with its interval, and the control it stands on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from petl_core.study.statistics import Interval

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_RUN, NOT_TESTABLE = "not run", "not testable"


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

    def of(self, profile: str) -> Verdict:
        """The same, of a profile."""
        return replace(self, profile=profile)

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
        parts = [part for part in (self.size, self.control, self.note) if part]
        return f"{self.verdict}" + (f": {'; '.join(parts)}" if parts else "")


def judged(
    effect: Interval,
    unit: str,
    control: str,
    behaves: bool = True,
    *,
    margin: float = 0.0,
    note: str = "",
    sample: str = "tasks",
) -> Verdict:
    """The verdict on a claim that the effect is above ``margin``: by its interval, if the control behaves."""
    if not behaves or not math.isfinite(effect.low):
        word = UNDECIDED
    else:
        word = SUPPORTED if effect.low > margin else CONTRADICTED if effect.high < margin else UNDECIDED
    ends = (effect.mean, effect.low, effect.high)
    return Verdict(word, *ends, unit, effect.n, sample, control, behaves, note, threshold=margin)
