"""How fast a comparison goes compared with its plan, and so what still fits into its time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from petl_core.study.budget import Plan
from petl_core.study.time import Speed

TRIAL, FINAL = "trial", "compare"  # variants of the records


class Pace:
    """How fast it goes compared with the plan, and so what still fits before ``until``."""

    def __init__(self, speeds: Mapping[str, Speed], sizes: Mapping[str, int], plan: Plan, until: float) -> None:
        self.speeds, self.sizes, self.plan, self.until = speeds, sizes, plan, until
        self.started = self.last = time.monotonic()
        self.expected = self.taken = 0.0

    def seconds(self, methods: Sequence[str], variant: str) -> float:
        """Planned wall-clock seconds of one round."""
        n, plan = self.sizes, self.plan
        trial = variant == TRIAL
        shape = (
            (n["train800"], plan.trial_epochs, n["val200"]) if trial else (n["train1000"], plan.final_epochs, n["test"])
        )
        runs = [self.speeds[method].seconds(*shape) for method in methods]
        return max([sum(runs) / plan.workers, *runs])

    def saw(self, methods: Sequence[str], variant: str, done: int, of: int) -> None:
        """Note a round's real time; rounds whose records were there already say nothing about speed."""
        now = time.monotonic()
        if done == of:
            self.expected += self.seconds(methods, variant)
            self.taken += now - self.last
        self.last = now

    def fits(self, planned: float) -> bool:
        slower = self.taken / self.expected if self.expected else 1.0
        return time.monotonic() + slower * planned <= self.until

    def allows_trial(self, methods: Sequence[str]) -> bool:
        """Another round of trials, and after it the final runs of every seed."""
        finals = self.plan.seeds * self.seconds(methods, FINAL)
        return self.fits(self.seconds(methods, TRIAL) + finals)

    def allows_seed(self, methods: Sequence[str]) -> bool:
        """Another final run of every method."""
        return self.fits(self.seconds(methods, FINAL))
