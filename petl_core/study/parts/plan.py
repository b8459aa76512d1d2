"""What a part of the study is: functions that list its trials and, from their records, its final runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from petl_core.study.executor import Planned
from petl_core.study.profiles import Profile
from petl_core.study.protocol import choose, trial_specs, trials_of
from petl_core.study.records import Records, RunSpec

Cells = list[tuple[str, str]]  # (task, method)


def our_trials_of(study: Profile, task: str, method: str, **recipe: Any) -> list[RunSpec]:
    """The tuning runs of one method on one task by our protocol; ``recipe`` replaces fields of their recipe."""
    return trial_specs(study, task, method, trials_of(study, method), **recipe)


def our_trials(study: Profile, cells: Cells) -> list[Planned]:
    """The tuning runs of all cells by our protocol."""
    return [Planned(spec, "trial") for cell in cells for spec in our_trials_of(study, *cell)]


def our_choices(study: Profile, cells: Cells, records: Records) -> list[RunSpec]:
    """The chosen trial of each cell whose trials are all there."""
    found = [choose(our_trials_of(study, *cell), records) for cell in cells]
    return [spec for spec in found if spec is not None]


@dataclass(frozen=True)
class PartPlan:
    """How a part makes its runs, and what it is about. ``only`` restricts it to some methods."""

    about: str
    finals: Callable[[Profile, Cells, Records], list[Planned]]
    trials: Callable[[Profile, Cells], list[Planned]] = our_trials
    only: tuple[str, ...] | None = None
