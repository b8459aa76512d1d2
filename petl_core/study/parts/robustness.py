"""The part of chapter 08: a model tuned on one style, evaluated under shifts, and weight-space ensembles.

Every method starts from the same head, zero-shot or a linear probe's (``Profile.robust``). There is no choice among
learning rates before the final runs: each rate has its final runs, because methods are compared at matched accuracy on
the target; which rate validation prefers is marked (``robustness_chosen``). Every final run measures accuracy under
shift on the way to the model that it started from.
"""

from __future__ import annotations

import dataclasses

from petl_core import methods
from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan
from petl_core.study.profile import Profile
from petl_core.study.protocol import Trial, choose, final_specs, trial_specs
from petl_core.study.records import Records, RunSpec


def rate_trials(study: Profile, task: str, method: str) -> list[RunSpec]:
    """The tuning runs of a method, one for each of its learning rates, all else at its default."""
    how = study.robust
    points = [Trial(methods.get(method).hyper(), rate) for rate in how.rates(method)]
    limit = how.max_evaluate or study.max_evaluate
    study = dataclasses.replace(study, backbone=how.backbone, image_size=how.image_size, max_evaluate=limit)
    return [dataclasses.replace(spec, head=how.head) for spec in trial_specs(study, task, method, points)]


def _trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [Planned(spec, "robustness_trial") for cell in cells for spec in rate_trials(study, *cell)]


def _finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell in cells:
        trials = rate_trials(study, *cell)
        best = choose(trials, records)
        for trial in trials if best is not None else []:
            specs = final_specs(study, trial, measure=("interpolation",))
            plan += [Planned(spec, "robustness") for spec in specs]
            plan += [Planned(spec, "robustness_chosen") for spec in specs if trial == best]
    return plan


PARTS = {
    "robustness": PartPlan(
        "CLIP tuned on one style of the rendered world, under four shifts, with weight-space ensembles",
        _finals,
        _trials,
    ),
}
