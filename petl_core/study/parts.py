"""The parts of the study: each a name that profiles use, with what is tuned in it and which final runs follow.

A row of ``PARTS`` gives, for one method on one task, its ``Tuning``s: base runs and one axis of changes. Rows of
``of_choice`` train the choice of our protocol again; the others tune anew, or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from petl_core import methods
from petl_core.study.profile import (
    BITFIT_BASE,
    DEFAULT_LR,
    HELD_BACK,
    HIGH_LRS,
    LONGER,
    MORE_SEEDS,
    SCRATCH_LRS,
    Profile,
)
from petl_core.study.protocol import MARKS, Tuning, our_trials, published_trials, trial_specs, trials
from petl_core.study.records import Records, RunSpec
from petl_core.study.search import Setting, first_settings, step
from petl_core.training.train import CHOICES

TWICE = 2  # as many epochs, in the part "tuned_longer"
FIXED_SIZES: dict[str, tuple[int, ...]] = {"lora": (1, 8), "fact_tk": (8,), "houlsby_adapter": (8,)}  # of "sized"
MOVED = {"measure": ("displacement",)}

Finals = Mapping[str, Mapping[str, Any]]  # variants of final runs, each with what ``final_specs`` changes
Tunings = Callable[[Profile, str, str, Records | None], list[Tuning]]  # of a profile, task, method and its records


@dataclass(frozen=True)
class PartKind:
    """What a part is about, and what is tuned in it for a profile, a task and a method.

    ``tunings`` gets the records too, because they may decide on further trials; None: of no record yet. ``only``
    restricts the part to some methods."""

    about: str
    tunings: Tunings
    only: tuple[str, ...] | None = None


def of_choice(finals: Callable[[Profile], Finals], *, marks: tuple[str, ...] = (), own: bool = False) -> Tunings:
    """Our protocol's trials, and these final runs of its choice. ``own``: the trials are ``<variant>_trial``, not those
    of the part "tuned"."""

    def tunings(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
        variants, specs = finals(profile), our_trials(profile, task, method, records)
        if own:
            return [Tuning(profile, specs, variants, f"{next(iter(variants))}_trial", marks=marks)]
        return [Tuning(profile, specs, variants, marks=marks)]

    return tunings


def untuned(profile: Profile, task: str, method: str, variant: str, setting: Setting) -> list[Tuning]:
    """Final runs of one setting, without trials."""
    (given,) = trial_specs(profile, task, method, [setting])
    return [Tuning(profile, [], {variant: {}}, given=given)]


# Few images (chapters 03 to 05)


def _default(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    return untuned(profile, task, method, "default", Setting(methods.get(method).hyper(), DEFAULT_LR))


def _fewer_trials(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    specs = our_trials(profile, task, method, records)
    return [Tuning(profile, specs[:k], {f"trials_{k}": {}}) for k in range(1, profile.trials + 1)]


def _full_low_lr(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    count = min(profile.trials, len(HIGH_LRS) * len(profile.drop_paths))  # all there is: two rates, with and without
    high = trial_specs(profile, task, method, trials(method, count, profile.drop_paths, HIGH_LRS))
    return [
        Tuning(profile, high, {"full_high_lr": {}}, "full_high_lr_trial"),
        Tuning(profile, our_trials(profile, task, method, records), {"full_low_lr": {}}),
    ]


def _bitfit(profile: Profile) -> Finals:
    tuned_rate = {name: value for name, value in BITFIT_BASE.items() if name != "lr"}
    ours = {"drop_path": max(profile.drop_paths), "normalise": "backbone"}
    one_changed = {f"bitfit_{name}": {**BITFIT_BASE, name: value} for name, value in ours.items()}
    return {"bitfit_base": BITFIT_BASE, "bitfit_all": ours, "bitfit_lr": tuned_rate, **one_changed}


def _published(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    once = dataclasses.replace(profile, seeds=profile.published_seeds[:1])
    specs = trial_specs(once, task, method, published_trials(method), decay="all")
    return [Tuning(profile, specs, {"published": {"seeds": profile.published_seeds}}, "published_trial", "latest")]


def _scratch(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    random = dataclasses.replace(profile, pretrained=False)
    specs = trial_specs(random, task, method, trials(method, profile.trials, profile.drop_paths, SCRATCH_LRS))
    return [Tuning(profile, specs, {"scratch": {}}, "scratch_trial")]


def _scratch_fixed(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    random = dataclasses.replace(profile, pretrained=False)
    return untuned(random, task, method, "scratch", first_settings(method, SCRATCH_LRS[:1])[0])


def _normalise(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    # The study's sweeps trained on images in [0, 1], its released command line on ImageNet's statistics, and the
    # backbone was pre-trained with a mean and deviation of 0.5: a choice like the learning rate.
    return [
        Tuning(
            profile,
            our_trials(profile, task, method, records, normalise=how),
            {f"normalise_{how}": {}},
            f"normalise_{how}_trial",
        )
        for how in CHOICES["normalise"]
    ]


# Fixed sizes, with few or many images (chapter 06). Tasks are named with their number of images ("orientation@10000";
# without one, the suite's thousand). Each cell is tuned over learning rates alone, because the size is what is swept.


def _each_size(method: str, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Each size as a hyper-parameter; one choice without any for a method without a size."""
    field = type(methods.get(method)).size_field
    return [{field: size} for size in sizes] if field else [{}]


def sweep_trials(profile: Profile, task: str, method: str, fixed: dict[str, Any]) -> list[RunSpec]:
    """The tuning runs of one cell of the sweep."""
    rates = profile.amount(task).rates(method)
    settings = trials(method, min(profile.trials, len(rates)), profile.drop_paths[:1], rates, fixed)
    return trial_specs(profile.at_amount(task), task, method, settings)


def _many_shot(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    every = [sweep_trials(profile, task, method, fixed) for fixed in _each_size(method, profile.sizes)]
    return [Tuning(profile.at_amount(task), specs, {"many_shot": {}}, "many_shot_trial") for specs in every]


def sized_trials(profile: Profile, task: str, method: str, fixed: dict[str, Any]) -> list[RunSpec]:
    """The search's first rates at a fixed size; no further trials."""
    if profile.search is None:
        raise ValueError(f"profile {profile.name!r} has no adaptive search")
    settings = first_settings(method, profile.search.rates(method), **fixed)
    return trial_specs(profile.at_length(task), task, method, settings)


def _sized(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    every = [sized_trials(profile, task, method, fixed) for fixed in _each_size(method, FIXED_SIZES.get(method, ()))]
    its = profile.at_length(task)
    return [Tuning(its, specs, {"many_shot": {}}, "many_shot_trial", marks=MARKS) for specs in every]


# How far tuning moves, and full fine-tuning that is held back (chapter 07)


def held_trials(profile: Profile, task: str, method: str, how: str) -> list[RunSpec]:
    """The tuning runs of a method that is held back in a way (a key of ``HELD_BACK``), as many as it has without: half
    as many learning rates, each with two strengths."""
    its, count = profile.at_amount(task), max(1, profile.trials // 2)
    settings = trials(method, count, profile.drop_paths[:1], profile.lrs_of(method)[:count])
    return [
        spec
        for setting in settings
        for strength in HELD_BACK[how]
        for spec in trial_specs(its, task, method, [setting], **{how: strength})
    ][: profile.trials]


def _mechanism(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    its = profile.at_amount(task)
    every = {"mechanism": our_trials(its, task, method, records)}
    if method == "full":
        every |= {f"mechanism_{how}": held_trials(profile, task, method, how) for how in HELD_BACK}
    return [Tuning(its, specs, {variant: MOVED}, "mechanism_trial") for variant, specs in every.items()]


def _held_back(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    """Free, and for full fine-tuning in each way and strength two trials: at the rate that was chosen for it free, and
    at the step above, because what is held back bears a higher rate. Nothing of these until that is chosen."""
    its = profile.at_length(task)
    with_few = "@" in task
    specs = sized_trials(profile, task, method, {}) if with_few else our_trials(profile, task, method, records)
    free = Tuning(its, specs, {"mechanism": MOVED}, "mechanism_trial", marks=MARKS[:1])
    chosen = free.chosen(records) if method == "full" and records is not None else None
    found = [free]
    if chosen is not None:
        settings = [Setting(chosen.hyper, rate) for rate in (chosen.recipe.lr, step(chosen.recipe.lr, 1))]
        for how, strength in ((how, strength) for how, strengths in HELD_BACK.items() for strength in strengths):
            held = trial_specs(its, task, method, settings, **{how: strength})
            variants = {f"held_back_{how}_{strength:g}": MOVED}
            found.append(Tuning(its, held, variants, "held_back_trial", marks=MARKS[:1]))
    return found


# Under shift (chapter 08). Every method starts from the same head, zero-shot or a linear probe's. There is no choice
# among learning rates before the final runs: each rate has them, because methods are compared at matched accuracy on
# the target; which rate validation prefers is marked.


def rate_trials(profile: Profile, task: str, method: str) -> list[RunSpec]:
    """The tuning runs of a method under shift, one for each of its learning rates, all else at its default."""
    how = profile.robust
    settings = [Setting(methods.get(method).hyper(), rate) for rate in how.rates(method)]
    limit = how.max_evaluate or profile.max_evaluate
    its = dataclasses.replace(profile, backbone=how.backbone, image_size=how.image_size, max_evaluate=limit)
    return [dataclasses.replace(spec, head=how.head) for spec in trial_specs(its, task, method, settings)]


def _robustness(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    ensembles = {"measure": ("interpolation",)}
    every, chosen = {"robustness": ensembles}, {"robustness_chosen": ensembles}
    return [Tuning(profile, rate_trials(profile, task, method), chosen, "robustness_trial", every=every)]


# The protocol again


def _repeats(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    found = []
    for number in range(1, profile.repeats + 1):
        its = dataclasses.replace(profile, repeat=number)
        variant, specs = f"repeat_{number}", our_trials(its, task, method, records)
        found.append(Tuning(its, specs, {variant: {}}, f"{variant}_trial", marks=MARKS))
    return found


def _tuned_longer(profile: Profile, task: str, method: str, records: Records | None) -> list[Tuning]:
    tuned = Tuning(profile, our_trials(profile, task, method, records), {})
    chosen = tuned.chosen(records) if records is not None else None
    if chosen is None:
        return [tuned]
    settings = [Setting(chosen.hyper, rate) for rate in (chosen.recipe.lr, step(chosen.recipe.lr, -1))]
    specs = trial_specs(profile, task, method, settings, epochs=TWICE * profile.tune.epochs)
    finals = {"longer": {"epochs": TWICE * profile.final.epochs}}
    return [tuned, Tuning(profile, specs, finals, "longer_trial", marks=MARKS[:1])]


PARTS = {
    "tuned": PartKind(
        "our protocol: equal trials, chosen on val200, every seed on test",
        of_choice(lambda profile: {"tuned": {}}, marks=MARKS),
    ),
    "default": PartKind(f"no tuning: default size, learning rate {DEFAULT_LR:g}, no drop path", _default),
    "drop_path": PartKind(
        "the tuned configuration with each drop path rate (drop_path_0, drop_path_0.1)",
        of_choice(lambda profile: {f"drop_path_{rate:g}": {"drop_path": rate} for rate in profile.drop_paths}),
    ),
    "trials": PartKind("the choice after the first 1, 2, ... trials (trials_1, trials_2, ...)", _fewer_trials),
    "full_low_lr": PartKind(
        "full fine-tuning tuned over the published rates only (full_high_lr), beside ours (full_low_lr)",
        _full_low_lr,
        only=("full",),
    ),
    "bitfit": PartKind(
        "BitFit from an untuned recipe, one ingredient changed at a time (bitfit_base, bitfit_lr, ..., bitfit_all)",
        of_choice(_bitfit),
        only=("bitfit",),
    ),
    "best_on_test": PartKind(
        "the tuned configuration, with the best epoch on test kept apart",
        of_choice(lambda profile: {"best_on_test": {"track": True}}),
    ),
    "more_seeds": PartKind(
        f"the tuned configuration with {len(MORE_SEEDS)} seeds or more: the control of different predictions",
        of_choice(lambda profile: {"more_seeds": {"seeds": sorted({*profile.seeds, *MORE_SEEDS})}}),
    ),
    "longer": PartKind(
        f"the tuned configuration trained {LONGER} times as long: the control of the short training",
        of_choice(lambda profile: {"longer": {"epochs": LONGER * profile.final.epochs}}),
    ),
    "scratch": PartKind(
        "the same network from random weights, trained and tuned in the same way, as the control of pre-training",
        _scratch,
        only=("full",),
    ),
    "published": PartKind(
        "the published protocol: unequal grids, seed 42, weight decay on all, drop path 0.1, ties to the latest point",
        _published,
    ),
    "normalise": PartKind(
        "images normalised for the backbone, with ImageNet's statistics, and not at all (normalise_backbone, ...)",
        _normalise,
    ),
    "many_shot": PartKind("methods at fixed sizes, tuned, with 100 to 10,000 training images", _many_shot),
    "mechanism": PartKind(
        "how far weights and features move; full fine-tuning held back by L2-SP and by layer-wise rates", _mechanism
    ),
    "robustness": PartKind(
        "CLIP tuned on one style of the rendered world, under four shifts, with weight-space ensembles", _robustness
    ),
    "second_backbone": PartKind(
        "our protocol with another backbone, the part's own: do the findings hold there?",
        of_choice(lambda profile: {"second_backbone": {}}, own=True),
    ),
    "repeats": PartKind(
        "the whole protocol again, with another seed of trials and train1000 parted anew (repeat_1, repeat_2, ...)",
        _repeats,
    ),
    "tuned_longer": PartKind(
        f"tuned again with {TWICE} times the epochs, at the chosen rate and the step below (longer)", _tuned_longer
    ),
    "sized": PartKind(
        "methods at fixed sizes with few or many training images, tuned over the first rates (many_shot)", _sized
    ),
    "held_back": PartKind(
        "how far weights and features move; full fine-tuning held back at each strength (mechanism, held_back_...)",
        _held_back,
    ),
    "resolution": PartKind(
        "the same pictures and backbone at another image size (resolution_128, ...)",
        of_choice(lambda profile: {f"resolution_{profile.image_size}": {}}, marks=MARKS, own=True),
    ),
    "scratch_fixed": PartKind(
        "the same network from random weights at one learning rate, as the control of pre-training (scratch)",
        _scratch_fixed,
        only=("full",),
    ),
}
