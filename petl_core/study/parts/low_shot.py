"""The parts of chapters 04 and 05: few images, the protocol "tuned" and its variants, and the published protocol."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from petl_core import methods
from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan, marked, our_choices, our_trials, our_trials_of
from petl_core.study.profile import BITFIT_BASE, DEFAULT_LR, HIGH_LRS, LONGER, MORE_SEEDS, SCRATCH_LRS, Profile
from petl_core.study.protocol import Trial, choose, final_specs, make_spec, published_trials, trial_specs, trials
from petl_core.study.records import Records, RunSpec


def _tuned(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    marks = [p for cell in cells for p in marked(study, our_trials_of(study, *cell, records), records, "tuned")]
    chosen = our_choices(study, cells, records)
    return marks + [Planned(spec, "tuned") for trial in chosen for spec in final_specs(study, trial)]


def _default(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    point = {method: Trial(methods.get(method).hyper(), DEFAULT_LR) for _, method in cells}
    return [
        Planned(make_spec(study, task, method, point[method], study.final, seed, "train1000", "test"), "default")
        for task, method in cells
        for seed in study.seeds
    ]


def _drop_path(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, f"drop_path_{rate:g}")
        for chosen in our_choices(study, cells, records)
        for rate in study.drop_paths
        for spec in final_specs(study, chosen, drop_path=rate)
    ]


def _fewer_trials(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell, k in itertools.product(cells, range(1, study.trials + 1)):
        chosen = choose(our_trials_of(study, *cell, records)[:k], records)
        if chosen is not None:
            plan += [Planned(spec, f"trials_{k}") for spec in final_specs(study, chosen)]
    return plan


def _high_lr(study: Profile, task: str, method: str) -> list[RunSpec]:
    count = min(study.trials, len(HIGH_LRS) * len(study.drop_paths))  # all there is: two rates, with and without
    return trial_specs(study, task, method, trials(method, count, study.drop_paths, HIGH_LRS))


def _high_lr_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    high = [Planned(spec, "full_high_lr_trial") for cell in cells for spec in _high_lr(study, *cell)]
    return high + our_trials(study, cells, records)


def _high_lr_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell in cells:
        for name, specs in (
            ("full_high_lr", _high_lr(study, *cell)),
            ("full_low_lr", our_trials_of(study, *cell, records)),
        ):
            chosen = choose(specs, records)
            if chosen is not None:
                plan += [Planned(spec, name) for spec in final_specs(study, chosen)]
    return plan


def _bitfit(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for chosen in our_choices(study, cells, records):
        ours = {"lr": chosen.recipe.lr, "drop_path": max(study.drop_paths), "normalise": "backbone"}
        recipes: dict[str, dict[str, Any]] = {"base": BITFIT_BASE, "all": ours}
        recipes |= {name: {**BITFIT_BASE, name: value} for name, value in ours.items()}
        for name, recipe in recipes.items():
            plan += [Planned(spec, f"bitfit_{name}") for spec in final_specs(study, chosen, **recipe)]
    return plan


def _best_on_test(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, "best_on_test")
        for chosen in our_choices(study, cells, records)
        for spec in final_specs(study, chosen, track=True)
    ]


def _more_seeds(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    seeds = sorted({*study.seeds, *MORE_SEEDS})
    return [
        Planned(spec, "more_seeds")
        for chosen in our_choices(study, cells, records)
        for spec in final_specs(study, chosen, seeds=seeds)
    ]


def _longer(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, "longer")
        for chosen in our_choices(study, cells, records)
        for spec in final_specs(study, chosen, epochs=LONGER * study.final.epochs)
    ]


def _published(study: Profile, task: str, method: str) -> list[RunSpec]:
    once = dataclasses.replace(study, seeds=study.published_seeds[:1])
    return trial_specs(once, task, method, published_trials(method), decay="all")


def _published_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [Planned(spec, "published_trial") for cell in cells for spec in _published(study, *cell)]


def _published_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    found = [choose(_published(study, *cell), records, ties="latest") for cell in cells]
    return [
        Planned(spec, "published")
        for chosen in found
        if chosen is not None
        for spec in final_specs(study, chosen, seeds=study.published_seeds)
    ]


def _scratch(study: Profile, task: str, method: str) -> list[RunSpec]:
    points = trials(method, study.trials, study.drop_paths, SCRATCH_LRS)
    return trial_specs(dataclasses.replace(study, pretrained=False), task, method, points)


def _scratch_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [Planned(spec, "scratch_trial") for cell in cells for spec in _scratch(study, *cell)]


def _scratch_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    found = [choose(_scratch(study, *cell), records) for cell in cells]
    return [Planned(s, "scratch") for chosen in found if chosen is not None for s in final_specs(study, chosen)]


PARTS = {
    "tuned": PartPlan("our protocol: equal trials, chosen on val200, every seed on test", _tuned),
    "default": PartPlan(
        f"no tuning: default size, learning rate {DEFAULT_LR:g}, no drop path",
        _default,
        lambda study, cells, records: [],
    ),
    "drop_path": PartPlan("the tuned configuration with each drop path rate (drop_path_0, drop_path_0.1)", _drop_path),
    "trials": PartPlan("the choice after the first 1, 2, ... trials (trials_1, trials_2, ...)", _fewer_trials),
    "full_low_lr": PartPlan(
        "full fine-tuning tuned over the published rates only (full_high_lr), beside ours (full_low_lr)",
        _high_lr_finals,
        _high_lr_trials,
        only=("full",),
    ),
    "bitfit": PartPlan(
        "BitFit from an untuned recipe, one ingredient changed at a time (bitfit_base, bitfit_lr, ..., bitfit_all)",
        _bitfit,
        only=("bitfit",),
    ),
    "best_on_test": PartPlan("the tuned configuration, with the best epoch on test kept apart", _best_on_test),
    "more_seeds": PartPlan(
        f"the tuned configuration with {len(MORE_SEEDS)} seeds or more: the control of different predictions",
        _more_seeds,
    ),
    "longer": PartPlan(
        f"the tuned configuration trained {LONGER} times as long: the control of the short training", _longer
    ),
    "scratch": PartPlan(
        "the same network from random weights, trained and tuned in the same way, as the control of pre-training",
        _scratch_finals,
        _scratch_trials,
        only=("full",),
    ),
    "published": PartPlan(
        "the published protocol: unequal grids, seed 42, weight decay on all, drop path 0.1, ties to the latest point",
        _published_finals,
        _published_trials,
    ),
}
