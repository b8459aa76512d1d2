"""Our protocol, "tuned": which trials, which choice, which final runs; beside it the grid of the published one.

Every method has the same number of trials on train800, judged on val200 after the last epoch; the choice is trained
again on train1000 with every seed, and the test images are looked at once. Trials are the first settings of a fixed
grid (``trials``; ties to the smaller model, then the smaller learning rate) or an adaptive search decides on them
(``study.search``; ties to the smaller learning rate, then the smaller model). These functions turn that into specs;
``study.parts`` says which, ``study.plan`` lists them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from petl_core import methods
from petl_core.study.digests import task_digest, weights_digest
from petl_core.study.executor import Planned
from petl_core.study.profile import DROP_PATHS, HIGH_LRS, PUBLISHED_DECAYS, PUBLISHED_DROP_PATH, REPEAT_SEED, Profile
from petl_core.study.records import Records, RunSpec
from petl_core.study.search import Setting, Tried, at_edge, better, first_settings, next_setting
from petl_core.training.train import Recipe
from petl_core.utils import UserError

OURS = "trial"  # the variant of our protocol's tuning runs, which many parts share
MARKS = ("chosen", "edge")
OF_TRIALS = ("lr", "weight_decay", "drop_path", "normalise", "decay", "l2_sp", "layer_decay")  # kept in final runs


def trials(
    method: str,
    k: int,
    drop_paths: Iterable[float] = DROP_PATHS,
    lrs: Iterable[float] = (),
    fixed: dict[str, Any] | None = None,
    *,
    published: bool = False,
) -> list[Setting]:
    """The first ``k`` settings of the method's grid, ``lrs`` x ``space`` x drop path, in an order that never changes.

    First every learning rate, all else at its default; then the settings with one other value changed, at the first
    rate before the others; then those with two changed; and so on. ``lrs`` replaces the method's own rates;
    ``published`` takes the study's sizes and scales instead of ``space``; ``fixed`` hyper-parameters leave only rates.
    Raises ``UserError`` if the grid has fewer than ``k``, because every method gets the same number of trials.
    """
    cls = type(methods.get(method))
    rates, default = tuple(lrs) or tuple(cls.lrs), methods.get(method, **(fixed or {})).hyper()
    space: Mapping[str, Iterable[Any]] = cls.published_space if published else cls.space
    if fixed is not None:
        space = {}
    axes = {name: [default[name], *(v for v in values if v != default[name])] for name, values in space.items()}
    axes["drop_path"] = list(drop_paths)
    places = itertools.product(range(len(rates)), *(range(len(values)) for values in axes.values()))
    grid = sorted(places, key=_turn)
    if k < 1 or k > len(grid):
        raise UserError(f"method '{method}' has {len(grid)} points, not {k} to try; choose 1 to {len(grid)} trials")
    found = []
    for rate, *place in grid[:k]:
        values = {name: axis[number] for (name, axis), number in zip(axes.items(), place, strict=True)}
        drop_path = values.pop("drop_path")
        found.append(Setting({**default, **values}, rates[rate], drop_path))
    return found


def _turn(places: tuple[int, ...]) -> tuple[Any, ...]:
    """When a point of a grid has its turn: its place on the axis of rates, then on each other axis (0: the default)."""
    rate, others = places[0], places[1:]
    return sum(place > 0 for place in others), rate, sum(others), others[::-1]


def trials_of(profile: Profile, method: str) -> list[Setting]:
    """What the profile tries of a method."""
    rates = profile.lrs_of(method)
    return trials(method, profile.trials, profile.drop_paths, rates, published=profile.published_sizes)


def published_trials(method: str) -> list[Setting]:
    """The published grid: as large as the study made it, so from 4 settings for BitFit to 80 for ConvPass."""
    cls, default = type(methods.get(method)), methods.get(method).hyper()
    names = list(cls.published_space)
    return [
        Setting({**default, **dict(zip(names, values, strict=True))}, lr, PUBLISHED_DROP_PATH, decay)
        for values in itertools.product(*cls.published_space.values())
        for lr in HIGH_LRS
        for decay in PUBLISHED_DECAYS
    ]


def choose(specs: list[RunSpec], records: Records, ties: str = "smaller") -> RunSpec | None:
    """The trial with the highest validation accuracy after the last epoch; a diverged one never wins.

    ``ties="smaller"``: to the smaller model, then the smaller learning rate, then the smaller drop path, then the
    earlier; "lower_rate": to the smaller learning rate, then the smaller model, then the earlier; "latest": to the
    later one, as in the released code. None if a record is missing or all have diverged.
    """
    if not all(records.has(spec) for spec in specs):
        return None
    tried = [tried_of(spec, records) for spec in specs]
    if ties == "lower_rate":
        winner = better(tried)
        return None if winner is None else specs[next(i for i, one in enumerate(tried) if one is winner)]
    ranked = []
    for index, one in enumerate(tried):
        setting = one.setting
        tie = (-one.params, -setting.lr, -setting.drop_path, -index) if ties == "smaller" else (index,)
        if one.accuracy is not None:
            ranked.append(((one.accuracy, *tie), index))
    return specs[max(ranked)[1]] if ranked else None


def tried_of(spec: RunSpec, records: Records) -> Tried:
    """A trial that has a record, as the search looks at it."""
    metrics = records.get(spec)["metrics"]
    setting = Setting(spec.hyper, spec.recipe.lr, spec.recipe.drop_path)
    return Tried(setting, None if metrics["diverged"] else metrics["accuracy"], metrics["params"])


def trial_specs(profile: Profile, task: str, method: str, settings: list[Setting], **recipe: Any) -> list[RunSpec]:
    """The tuning runs of these settings: train800 -> val200, first seed of the profile. Those of a repeat r of the
    protocol have the seed 100 + r, and train1000 is parted anew into train800#r<r> and val200#r<r>. ``recipe`` replaces
    fields of their recipe."""
    seed, anew = profile.seeds[0], ""
    if profile.repeat:
        seed, anew = REPEAT_SEED + profile.repeat, f"#r{profile.repeat}"
    weights = weights_digest(profile.backbone, profile.absent) if profile.pretrained else "random"
    data = task_digest(task, profile.image_size, profile.absent)
    return [
        RunSpec(
            backbone=profile.backbone,
            weights=weights,
            method=method,
            hyper=setting.hyper,
            task=task,
            task_digest=data,
            recipe=_at(setting, profile.tune, **recipe),
            seed=seed,
            train_on=f"train800{anew}",
            evaluate_on=f"val200{anew}",
            max_train=profile.max_train,
            max_evaluate=profile.max_evaluate,
            image_size=profile.image_size,
        )
        for setting in settings
    ]


def _at(setting: Setting, recipe: Recipe, **more: Any) -> Recipe:
    decay = recipe.weight_decay if setting.weight_decay is None else setting.weight_decay
    values = {"lr": setting.lr, "drop_path": setting.drop_path, "weight_decay": decay}
    return dataclasses.replace(recipe, **{**values, **more})


def final_specs(profile: Profile, trial: RunSpec, seeds: Iterable[int] | None = None, **changes: Any) -> list[RunSpec]:
    """The final runs of a chosen trial: train1000 -> test, with the profile's final recipe and every seed.

    ``changes`` replace fields of the spec (``track``, ``measure``) or of the recipe (``drop_path`` ...).
    """
    outer = {key: changes.pop(key) for key in list(changes) if key in ("track", "measure")}
    kept = {key: getattr(trial.recipe, key) for key in OF_TRIALS}
    recipe = dataclasses.replace(profile.final, **{**kept, **changes})
    final = dataclasses.replace(
        trial, recipe=recipe, train_on="train1000", evaluate_on="test", max_train=profile.max_train, **outer
    )
    return [dataclasses.replace(final, seed=seed) for seed in (seeds or profile.seeds)]


def our_trials(
    profile: Profile, task: str, method: str, records: Records | None = None, **recipe: Any
) -> list[RunSpec]:
    """The tuning runs of one method on one task by our protocol, as far as they are known: by a fixed grid all of them;
    by an adaptive search those at its first rates and, as far as ``records`` decide, the next. A list of which every
    run has a record is complete. ``recipe`` replaces fields of their recipe."""
    if profile.search is None:
        return trial_specs(profile, task, method, trials_of(profile, method), **recipe)
    rates = profile.search.rates(method)
    specs = trial_specs(profile, task, method, first_settings(method, rates), **recipe)
    while records is not None and all(records.has(spec) for spec in specs):
        setting = next_setting(method, rates, [tried_of(spec, records) for spec in specs], profile.trials)
        if setting is None:
            break
        specs += trial_specs(profile, task, method, [setting], **recipe)
    return specs


@dataclass(frozen=True)
class Tuning:
    """Tuning runs of one method on one task, of which one is chosen, and the final runs of the choice.

    ``finals``: the variants of the final runs, each with what ``final_specs`` changes; ``every``: the same for variants
    of which each tuning run has final runs, once there is a choice. ``trial``: the variant of the tuning runs.
    ``ties``: as ``choose`` takes them; None: as the profile's search breaks them. ``marks``: with an adaptive search
    the chosen trial's record is marked as ``<variant>_chosen`` and, where its rate is the lowest or highest tried, as
    ``<variant>_edge``. ``given``: what takes the place of a choice where nothing is tuned.
    """

    profile: Profile
    specs: list[RunSpec]
    finals: Mapping[str, Mapping[str, Any]]
    trial: str = OURS
    ties: str | None = None
    marks: tuple[str, ...] = ()
    every: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    given: RunSpec | None = None

    def chosen(self, records: Records) -> RunSpec | None:
        """The chosen tuning run; None while one has no record, and if all have diverged."""
        by_search = "smaller" if self.profile.search is None else "lower_rate"
        return self.given or choose(self.specs, records, self.ties or by_search)

    def plan_trials(self) -> list[Planned]:
        """The tuning runs."""
        return [Planned(spec, self.trial) for spec in self.specs]

    def plan_finals(self, records: Records) -> list[Planned]:
        """The marks and the final runs; nothing without a choice."""
        chosen = self.chosen(records)
        if chosen is None:
            return []
        plan = self._marks(chosen)
        for trial in self.specs if self.every else [chosen]:
            variants = {**self.every, **(self.finals if trial == chosen else {})}
            for variant, changes in variants.items():
                plan += [Planned(spec, variant) for spec in final_specs(self.profile, trial, **changes)]
        return plan

    def _marks(self, chosen: RunSpec) -> list[Planned]:
        if self.profile.search is None or not self.marks:  # records of fixed grids were shipped without marks
            return []
        at_end = at_edge(chosen.recipe.lr, [spec.recipe.lr for spec in self.specs])
        wanted = [mark for mark in self.marks if mark != "edge" or at_end]
        return [Planned(chosen, f"{next(iter(self.finals))}_{mark}") for mark in wanted]
