"""Who can still win a comparison, what is tried next, and how long runs are: decisions alone, no run is made here.

Everybody gets a fair first look: two learning rates each. Then the time goes to those that can still win, by the rules
of the study's adaptive search (``study.search``): rates outward while the best lies at an end, other sizes, rates
between. Trials are as long as final runs, because the rate that wins a short run is wrong for a longer one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from petl_core.models.weights import EMBEDDED_NAMES
from petl_core.study.profile import epochs_for
from petl_core.study.profiles_adaptive import EPOCHS, MINI, VIT
from petl_core.study.search import Setting, Tried, better, first_settings, next_setting
from petl_core.study.spec import RunSpec
from petl_core.study.time import Speed

MARGIN = 2.0  # points of accuracy that a recommended method may lose against the best
MOST_TRIALS = 6
FIRST = slice(1, 3)  # of the search's four rates: the middle two
ONE_SIDED = 1.64  # standard errors: an entrant that is behind by more has one chance in twenty to be ahead
SHARING = 1.15  # a run beside others takes longer than one alone
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 128, 160)  # epochs of a run


@dataclass
class Entrant:
    """A method in the contest: what has been tried of it, at what length, and why it is out, if it is."""

    method: str
    backbone: str
    most: int = MOST_TRIALS
    tried: list[Tried] = field(default_factory=list)
    specs: list[RunSpec] = field(default_factory=list)  # of what was tried
    out: str = ""

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of the first look."""
        return (MINI if self.backbone in EMBEDDED_NAMES else VIT).rates(self.method)[FIRST]

    @property
    def best(self) -> Tried | None:
        """The best trial so far; None before the first, and if all diverged."""
        return better(self.tried)

    @property
    def chosen(self) -> RunSpec | None:
        """The spec of the best trial."""
        return next((spec for spec, one in zip(self.specs, self.tried, strict=True) if one is self.best), None)

    @property
    def accuracy(self) -> float:
        """On validation, of the best trial; minus infinity without one."""
        return -math.inf if self.best is None or self.best.accuracy is None else self.best.accuracy

    def first(self) -> list[Setting]:
        """The first look."""
        return first_settings(self.method, self.rates[: self.most])

    def next(self) -> Setting | None:
        """What to try next; None when its trials are used up."""
        return next_setting(self.method, self.rates[: self.most], self.tried, self.most)


def still_in(entrants: Sequence[Entrant], validation: int, margin: float = MARGIN) -> list[Entrant]:
    """Those that can still win, best first: not behind the leader by more than the margin and the noise of
    ``validation`` images."""
    running = sorted((one for one in entrants if not one.out), key=lambda one: -one.accuracy)
    lead = running[0].accuracy if running else -math.inf
    if not math.isfinite(lead):
        return running
    error = 100.0 * math.sqrt(2 * max(lead / 100 * (1 - lead / 100), 1 / validation) / validation)
    return [one for one in running if one.accuracy >= lead - margin - ONE_SIDED * error]


def lengths(images: int) -> list[int]:
    """The lengths that a contest may have, longest first: that of the study's protocol, and shorter ones."""
    whole = epochs_for(images, EPOCHS)
    return [whole, *(epochs for epochs in reversed(LENGTHS) if epochs < whole)]


def needed(epochs: int, speeds: Mapping[str, Speed], sizes: Mapping[str, int], workers: int) -> float:
    """Seconds that a contest with runs of so many epochs takes at least: a first look at every method, a final run of
    half of them, and the two models to keep. ``sizes``: images in each split."""
    trials = [speed.seconds(sizes["train800"], epochs, sizes["val200"]) for speed in speeds.values()]
    finals = [speed.seconds(sizes["train1000"], epochs, sizes["test"]) for speed in speeds.values()]
    together = SHARING / workers if workers > 1 else 1.0
    return together * (2 * sum(trials) + sum(finals) / 2) + models(sizes) * statistics.median(finals)


def models(sizes: Mapping[str, int]) -> float:
    """How long the two models to keep take, in lengths of a final run: one on its images, one on all."""
    return 2 + sizes["test"] / sizes["train1000"]


def climbing(history: Sequence[float]) -> bool:
    """Was the training accuracy of an epoch still rising at the end: by ten points or more over the last quarter?"""
    earlier = len(history) - 1 - max(1, len(history) // 4)
    return earlier >= 0 and history[-1] - history[earlier] >= 10.0
