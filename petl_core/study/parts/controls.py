"""Parts of the adaptive protocol beside "tuned": the noise of choosing, the control of short training, few and many
images at fixed sizes, full fine-tuning that is held back, larger images, and random weights.

Their choices are marked in the records of the chosen trials (``plan.marked``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from petl_core import methods
from petl_core.data.embedded import parts_of_name
from petl_core.study.executor import Planned
from petl_core.study.parts.plan import Cells, PartPlan, marked, our_choice, our_trials, our_trials_of
from petl_core.study.profile import HELD_BACK, SCRATCH_LRS, Profile
from petl_core.study.protocol import Trial, final_specs, make_spec, trial_specs
from petl_core.study.records import Records, RunSpec
from petl_core.study.search import first_points, step

IMAGES = 1000  # of the tasks whose epochs the profile names
FEWEST, MOST = 4, 80  # epochs with another number of images
TWICE = 2  # as many epochs, in the part "longer"
SIZES: dict[str, tuple[int, ...]] = {"lora": (1, 8), "fact_tk": (8,), "houlsby_adapter": (8,)}  # at fixed sizes


def at_length(study: Profile, task: str) -> Profile:
    """The profile with epochs by the task's number of training images, so that all see about as many images."""
    if study.max_train is not None:
        return study
    count = parts_of_name(task)[1] if "@" in task else IMAGES

    def recipe(its: Any) -> Any:
        epochs = its.epochs if count == IMAGES else min(max(round(its.epochs * IMAGES / count), FEWEST), MOST)
        return dataclasses.replace(its, epochs=epochs)

    return dataclasses.replace(study, tune=recipe(study.tune), final=recipe(study.final))


# The whole protocol again


def repeats_of(study: Profile) -> list[Profile]:
    """The profile once for each repeat of the protocol: another seed of trials, train1000 parted anew."""
    return [dataclasses.replace(study, repeat=number) for number in range(1, study.repeats + 1)]


def _repeat_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [
        Planned(spec, f"repeat_{its.repeat}_trial")
        for its in repeats_of(study)
        for cell in cells
        for spec in our_trials_of(its, *cell, records)
    ]


def _repeat_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for its in repeats_of(study):
        for cell in cells:
            plan += _chosen_and_finals(its, our_trials_of(its, *cell, records), records, f"repeat_{its.repeat}")
    return plan


def _chosen_and_finals(
    study: Profile, specs: list[RunSpec], records: Records, variant: str, **changes: Any
) -> list[Planned]:
    chosen = our_choice(study, specs, records)
    if chosen is None:
        return []
    finals = [Planned(spec, variant) for spec in final_specs(study, chosen, **changes)]
    return marked(study, specs, records, variant) + finals


# Twice as long


def longer_trials(study: Profile, task: str, method: str, records: Records | None) -> list[RunSpec]:
    """The choice of the part "tuned" trained twice as long, at its rate and at the step below; nothing without it."""
    chosen = our_choice(study, our_trials_of(study, task, method, records), records) if records is not None else None
    if chosen is None:
        return []
    points = [Trial(chosen.hyper, rate) for rate in (chosen.recipe.lr, step(chosen.recipe.lr, -1))]
    return trial_specs(study, task, method, points, epochs=TWICE * study.tune.epochs)


def _longer_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    more = [Planned(spec, "longer_trial") for cell in cells for spec in longer_trials(study, *cell, records)]
    return our_trials(study, cells, records) + more


def _longer_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell in cells:
        chosen = our_choice(study, longer_trials(study, *cell, records), records)
        if chosen is not None:
            finals = final_specs(study, chosen, epochs=TWICE * study.final.epochs)
            plan += [Planned(chosen, "longer_chosen"), *(Planned(spec, "longer") for spec in finals)]
    return plan


# Fixed sizes, with few or many images


def sized_trials(study: Profile, task: str, method: str, fixed: dict[str, Any]) -> list[RunSpec]:
    """The search's first rates at a fixed size; no further trials."""
    if study.search is None:
        raise ValueError(f"profile {study.name!r} has no adaptive search")
    points = first_points(method, study.search.rates(method), **fixed)
    return trial_specs(at_length(study, task), task, method, points)


def _sized(study: Profile, cells: Cells) -> list[list[RunSpec]]:
    found = []
    for task, method in cells:
        field = type(methods.get(method)).size_field
        fixed: list[dict[str, Any]] = [{field: size} for size in SIZES[method]] if field else [{}]
        found += [sized_trials(study, task, method, one) for one in fixed]
    return found


def _sized_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return [Planned(spec, "many_shot_trial") for specs in _sized(study, cells) for spec in specs]


def _sized_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for specs in _sized(study, cells):
        plan += _chosen_and_finals(at_length(study, specs[0].task), specs, records, "many_shot")
    return plan


# Held back


def _free_trials(study: Profile, task: str, method: str, records: Records | None) -> list[RunSpec]:
    """The trials of a method that is not held back: with few images at its default size, else those of "tuned"."""
    if "@" in task:
        return sized_trials(study, task, method, {})
    return our_trials_of(study, task, method, records)


def held_trials(study: Profile, task: str, records: Records | None) -> dict[str, list[RunSpec]]:
    """For each way and strength of holding full fine-tuning back its two trials: at the rate that was chosen for it
    free, and at the step above, because what is held back bears a higher rate. Nothing until that is chosen."""
    if records is None or (free := our_choice(study, _free_trials(study, task, "full", records), records)) is None:
        return {}
    points = [Trial(free.hyper, rate) for rate in (free.recipe.lr, step(free.recipe.lr, 1))]
    return {
        f"held_back_{how}_{strength:g}": trial_specs(at_length(study, task), task, "full", points, **{how: strength})
        for how, strengths in HELD_BACK.items()
        for strength in strengths
    }


def _held_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    plan = []
    for task, method in cells:
        plan += [Planned(spec, "mechanism_trial") for spec in _free_trials(study, task, method, records)]
        if method == "full":
            held = held_trials(study, task, records).values()
            plan += [Planned(spec, "held_back_trial") for specs in held for spec in specs]
    return plan


def _held_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for task, method in cells:
        every = {"mechanism": _free_trials(study, task, method, records)}
        every |= held_trials(study, task, records) if method == "full" else {}
        for variant, specs in every.items():
            chosen = our_choice(study, specs, records)
            if chosen is not None:
                finals = final_specs(at_length(study, task), chosen, measure=("displacement",))
                plan += [Planned(chosen, f"{variant}_chosen"), *(Planned(spec, variant) for spec in finals)]
    return plan


# Larger images, random weights


def _resolution_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    variant = f"resolution_{study.image_size}_trial"
    return [Planned(spec, variant) for cell in cells for spec in our_trials_of(study, *cell, records)]


def _resolution_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    variant, plan = f"resolution_{study.image_size}", []
    for cell in cells:
        plan += _chosen_and_finals(study, our_trials_of(study, *cell, records), records, variant)
    return plan


def _from_scratch(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    random = dataclasses.replace(study, pretrained=False)
    return [
        Planned(make_spec(random, task, method, point, study.final, seed, "train1000", "test"), "scratch")
        for task, method in cells
        for point in first_points(method, SCRATCH_LRS[:1])
        for seed in study.seeds
    ]


def _no_trials(study: Profile, cells: Cells, records: Records | None) -> list[Planned]:
    return []


PARTS = {
    "repeats": PartPlan(
        "the whole protocol again, with another seed of trials and train1000 parted anew (repeat_1, repeat_2, ...)",
        _repeat_finals,
        _repeat_trials,
    ),
    "tuned_longer": PartPlan(
        f"tuned again with {TWICE} times the epochs, at the chosen rate and the step below (longer)",
        _longer_finals,
        _longer_trials,
    ),
    "sized": PartPlan(
        "methods at fixed sizes with few or many training images, tuned over the first rates (many_shot)",
        _sized_finals,
        _sized_trials,
    ),
    "held_back": PartPlan(
        "how far weights and features move; full fine-tuning held back at each strength (mechanism, held_back_...)",
        _held_finals,
        _held_trials,
    ),
    "resolution": PartPlan(
        "the same pictures and backbone at another image size (resolution_128, ...)",
        _resolution_finals,
        _resolution_trials,
    ),
    "scratch_fixed": PartPlan(
        "the same network from random weights at one learning rate, as the control of pre-training (scratch)",
        _from_scratch,
        _no_trials,
        only=("full",),
    ),
}
