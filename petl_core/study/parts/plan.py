"""What a part of the study is: functions that list its trials and, from their records, its final runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from petl_core.study.executor import Planned
from petl_core.study.profile import Profile
from petl_core.study.protocol import choose, trial_specs, trials_of, tried_of
from petl_core.study.records import Records, RunSpec
from petl_core.study.search import at_edge, first_points, next_point

Cells = list[tuple[str, str]]  # (task, method)


def our_trials_of(
    study: Profile, task: str, method: str, records: Records | None = None, **recipe: Any
) -> list[RunSpec]:
    """The tuning runs of one method on one task by our protocol, as far as they are known: by a fixed grid all of them;
    by an adaptive search those at its first rates and, as far as ``records`` decide, the next. A list of which every
    run has a record is complete. ``recipe`` replaces fields of their recipe."""
    if study.search is None:
        return trial_specs(study, task, method, trials_of(study, method), **recipe)
    rates = study.search.rates(method)
    specs = trial_specs(study, task, method, first_points(method, rates), **recipe)
    while records is not None and all(records.has(spec) for spec in specs):
        point = next_point(method, rates, [tried_of(spec, records) for spec in specs], study.trials)
        if point is None:
            break
        specs += trial_specs(study, task, method, [point], **recipe)
    return specs


def our_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    """The tuning runs of all cells by our protocol."""
    return [Planned(spec, "trial") for cell in cells for spec in our_trials_of(study, *cell, records)]


def our_choice(study: Profile, specs: list[RunSpec], records: Records) -> RunSpec | None:
    """The chosen one of these trials; None while one is missing. Ties as the search breaks them."""
    return choose(specs, records, "smaller" if study.search is None else "lower_rate")


def our_choices(study: Profile, cells: Cells, records: Records) -> list[RunSpec]:
    """The chosen trial of each cell whose trials are all there."""
    found = [our_choice(study, our_trials_of(study, *cell, records), records) for cell in cells]
    return [spec for spec in found if spec is not None]


def marked(study: Profile, specs: list[RunSpec], records: Records, variant: str) -> list[Planned]:
    """The choice among these trials, to be marked in its record as ``<variant>_chosen`` and, where its rate is the
    lowest or highest tried, as ``<variant>_edge``. Nothing with a fixed grid, as shipped records have no such marks."""
    chosen = our_choice(study, specs, records) if study.search is not None else None
    if chosen is None:
        return []
    marks = [Planned(chosen, f"{variant}_chosen")]
    if at_edge(chosen.recipe.lr, [spec.recipe.lr for spec in specs]):
        marks.append(Planned(chosen, f"{variant}_edge"))
    return marks


@dataclass(frozen=True)
class PartPlan:
    """How a part makes its runs, and what it is about. ``only`` restricts it to some methods.

    ``trials`` gets the records too, because they may decide on further trials; None: of no record yet."""

    about: str
    finals: Callable[[Profile, Cells, Records], list[Planned]]
    trials: Callable[[Profile, Cells, Records | None], list[Planned]] = our_trials
    only: tuple[str, ...] | None = None
