"""The part of chapter 07: how far tuning moves weights and features, and full fine-tuning that is held back explicitly.

Full fine-tuning is tuned three times with equal trials: as it is (``mechanism``), with L2-SP (``mechanism_l2_sp``) and
with a rate that decays with depth (``mechanism_layer_decay``). Every final run measures the displacement.
"""

from __future__ import annotations

import itertools
from typing import Any

from petl_core.study.executor import Planned
from petl_core.study.parts.many_shot import budget
from petl_core.study.parts.plan import Cells, PartPlan, our_trials_of
from petl_core.study.profile import HELD_BACK, Profile
from petl_core.study.protocol import choose, final_specs, trial_specs, trials
from petl_core.study.records import Records, RunSpec


def held_trials(study: Profile, task: str, method: str, how: str) -> list[RunSpec]:
    """The tuning runs of a method, with a way (a key of ``HELD_BACK``) to hold it back or, if "", without.

    Of ``HELD_BACK[how]``, two strengths, each with the first half as many learning rates as there are trials.
    """
    study = budget(study, task)
    if not how:
        return our_trials_of(study, task, method)
    rates = study.lrs_of(method)
    points = trials(method, max(1, study.trials // 2), (study.drop_paths[0],), rates[: max(1, study.trials // 2)])
    strengths: list[dict[str, Any]] = [{how: value} for value in HELD_BACK[how]]
    specs = [trial_specs(study, task, method, [point], **more) for point, more in itertools.product(points, strengths)]
    return [spec for part in specs for spec in part][: study.trials]


def _ways(method: str) -> list[str]:
    return ["", *HELD_BACK] if method == "full" else [""]


def _trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [
        Planned(spec, "mechanism_trial")
        for task, method in cells
        for how in _ways(method)
        for spec in held_trials(study, task, method, how)
    ]


def _finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for task, method in cells:
        for how in _ways(method):
            chosen = choose(held_trials(study, task, method, how), records)
            if chosen is not None:
                specs = final_specs(budget(study, task), chosen, measure=("displacement",))
                plan += [Planned(spec, f"mechanism_{how}" if how else "mechanism") for spec in specs]
    return plan


PARTS = {
    "mechanism": PartPlan(
        "how far weights and features move; full fine-tuning held back by L2-SP and by layer-wise rates",
        _finals,
        _trials,
    ),
}
