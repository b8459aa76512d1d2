"""The part of chapter 06: methods at fixed sizes, from a hundred to ten thousand training images.

The tasks of this part are named with their number of images ("orientation@10000"; without one, the suite's thousand).
Each cell is tuned as everywhere, with as many trials as the others with as many images, but over learning rates alone,
because the size is what is swept. Larger sets are trained for fewer epochs and more steps (``profile.Amount``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from petl_core import methods
from petl_core.data.embedded import parts_of_name
from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan
from petl_core.study.profile import Amount, Profile
from petl_core.study.protocol import choose, final_specs, trial_specs, trials
from petl_core.study.records import Records, RunSpec


def amount(study: Profile, task: str) -> Amount:
    """How the profile trains with as many images as the task has."""
    return next(amount for amount in study.amounts if parts_of_name(task)[1] <= amount.most)


def budget(study: Profile, task: str) -> Profile:
    """The profile with the recipes of this part for that many images. A profile that takes few images of everything
    (smoke) keeps its own recipes. With more than a thousand images a trial is as long as a final run: a rate that is
    good for a few hundred steps can be too high for a few thousand. Trials augment as final runs do."""
    if study.max_train is not None:
        return study
    name, images = parts_of_name(task)
    epochs, augment = amount(study, task).epochs, dict(study.augments).get(name, study.final.augment)
    tune = dataclasses.replace(study.tune, epochs=study.tune.epochs if images == 1000 else epochs, augment=augment)
    final = dataclasses.replace(study.final, epochs=epochs, augment=augment)
    return dataclasses.replace(study, tune=tune, final=final)


def sizes_of(study: Profile, method: str) -> list[dict[str, Any]]:
    """A method's hyper-parameters in the sweep: each of the profile's sizes, or none for a method without a size."""
    field = type(methods.get(method)).size_field
    return [{field: size} for size in study.sizes] if field else [{}]


def sweep_trials(study: Profile, task: str, method: str, fixed: dict[str, Any]) -> list[RunSpec]:
    """The tuning runs of one cell of the sweep."""
    rates = amount(study, task).rates(method)
    points = trials(method, min(study.trials, len(rates)), study.drop_paths[:1], rates, fixed)
    return trial_specs(budget(study, task), task, method, points)


def _trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [
        Planned(spec, "many_shot_trial")
        for task, method in cells
        for fixed in sizes_of(study, method)
        for spec in sweep_trials(study, task, method, fixed)
    ]


def _finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for task, method in cells:
        for fixed in sizes_of(study, method):
            chosen = choose(sweep_trials(study, task, method, fixed), records)
            if chosen is not None:
                plan += [Planned(spec, "many_shot") for spec in final_specs(budget(study, task), chosen)]
    return plan


PARTS = {
    "many_shot": PartPlan("methods at fixed sizes, tuned, with 100 to 10,000 training images", _finals, _trials),
}
