"""The adaptive search: four learning rates, then a few trials more, each decided by one rule from what has been run.

``next_setting`` is that rule: a pure function of the trials so far, the same for all methods. The other kind of search,
a fixed grid, is ``petl_core.study.protocol.trials``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from petl_core import methods
from petl_core.utils import UserError

WIDEST = 2  # half-decade steps that the search may go beyond the rates it starts with
FACTOR = 4  # between the sizes that are tried
LARGEST = {"prompts": 64, "queries": 64}  # of a size; of the others
LARGEST_OTHER = 128


@dataclass(frozen=True)
class Setting:
    """What a trial tries: one point of a method's grid."""

    hyper: dict[str, Any]
    lr: float
    drop_path: float = 0.0
    weight_decay: float | None = None  # None: the recipe's


@dataclass(frozen=True)
class Tried:
    """A setting that has been run: its validation accuracy (None: diverged) and its trainable parameters."""

    setting: Setting
    accuracy: float | None
    params: int


@dataclass(frozen=True)
class Adaptive:
    """The learning rates that the search starts with, from low to high, half a decade apart (1 or 3 times a power of
    ten): of full fine-tuning and of ``selective``, of the linear probe, and of all other methods."""

    full: tuple[float, ...]
    linear: tuple[float, ...]
    others: tuple[float, ...]

    def __post_init__(self) -> None:
        for field in ("full", "linear", "others"):
            rates = getattr(self, field)
            if not rates or list(rates) != [step(rates[0], number) for number in range(len(rates))]:
                raise UserError(
                    f"Adaptive.{field} is {rates}; its rates must be 1 or 3 times a power of ten, each half a decade "
                    "above the one before, for example (1e-3, 3e-3, 1e-2, 3e-2)"
                )

    def rates(self, method: str) -> tuple[float, ...]:
        """The learning rates of a method to start with."""
        if method in ("full", "selective"):
            return self.full
        return self.linear if method == "linear" else self.others


def is_step(rate: float) -> bool:
    """Is the rate 1 or 3 times a power of ten?"""
    return Decimal(repr(rate)).normalize().as_tuple().digits in ((1,), (3,))


def step(rate: float, count: int) -> float:
    """The rate ``count`` half-decade steps above (below, if negative): ..., 3e-4, 1e-3, 3e-3, ...; for one between two
    steps, the first step in that direction counts as one."""
    if not is_step(rate):
        power = math.floor(math.log10(rate))
        below = float(f"3e{power}") if rate > float(f"3e{power}") else float(f"1e{power}")
        rate, count = below, count + (1 if count < 0 else 0)
    threes = Decimal(repr(rate)).normalize().as_tuple().digits == (3,)
    place = 2 * Decimal(repr(rate)).adjusted() + threes + count
    return float(f"{3 if place % 2 else 1}e{place // 2}")


def times(rate: float, factor: float) -> float:
    """The rate times a factor, rounded to one digit."""
    return float(f"{Decimal(repr(rate)) * Decimal(repr(factor)):.0e}")


def better(tried: Sequence[Tried]) -> Tried | None:
    """The best: highest validation accuracy, ties to the lower rate, then the smaller model, then the earlier trial. A
    diverged trial never wins; None if all have."""
    ranked = [
        (-one.accuracy, one.setting.lr, one.params, index)
        for index, one in enumerate(tried)
        if one.accuracy is not None and math.isfinite(one.accuracy)
    ]
    return tried[min(ranked)[-1]] if ranked else None


def at_edge(chosen: float, rates: Sequence[float]) -> bool:
    """Is the chosen rate the lowest or the highest of those tried?"""
    return chosen in (min(rates), max(rates))


def first_settings(method: str, rates: Sequence[float], **fixed: Any) -> list[Setting]:
    """Stage 1: every rate, all else at the method's default but for the ``fixed`` hyper-parameters."""
    hyper = methods.get(method, **fixed).hyper()
    return [Setting(hyper, rate) for rate in rates]


def next_setting(method: str, rates: Sequence[float], tried: Sequence[Tried], most: int) -> Setting | None:
    """What to try after these trials, which begin with ``first_settings``; None after ``most`` of them.

    1. If the best so far has the lowest or highest rate tried, the next rate outward, at most ``WIDEST`` steps beyond
    the first rates; if all have diverged, the next rate below. 2. Else, for a method with a size: at the best rate,
    four times the default size, then a quarter of it, within the limits. 3. Else twice the best rate, then half of it.
    A setting that has been tried is passed over for the next of this list. Rule 1 is not asked after rule 2 or 3.
    """
    if len(tried) >= most:
        return None
    if len(tried) < len(rates):
        return first_settings(method, rates)[len(tried)]
    there = [one.setting for one in tried]
    return next((setting for setting in _wanted(method, rates, tried) if setting not in there), None)


def _wanted(method: str, rates: Sequence[float], tried: Sequence[Tried]) -> Iterator[Setting]:
    default = first_settings(method, rates)[0].hyper
    steps = [one for one in tried if one.setting.hyper == default and is_step(one.setting.lr)]
    best = better(steps)
    low, high = (end(one.setting.lr for one in steps) for end in (min, max))
    if len(steps) == len(tried):
        if (best is None or best.setting.lr == low) and low > step(rates[0], -WIDEST):
            yield Setting(default, step(low, -1))
        if best is not None and best.setting.lr == high and high < step(rates[-1], WIDEST):
            yield Setting(default, step(high, 1))
    if best is None:
        return
    rate, name = best.setting.lr, type(methods.get(method)).size_field
    if name is not None:
        largest = LARGEST.get(name, LARGEST_OTHER)
        for size in (default[name] * FACTOR, default[name] // FACTOR):
            yield Setting({**default, name: min(max(size, 1), largest)}, rate)
    for factor in (2.0, 0.5):
        yield Setting(default, times(rate, factor))
