"""The study: from a profile to runs. Which trials, which choice, which final runs; ``petl_core.workers`` executes them.

The protocol "tuned" (ours): every method has the same number of trials on train800, judged on val200 after the last
epoch, ties to the smaller model and then the smaller learning rate; the choice is trained again on train1000 with every
seed, and the test images are looked at once. The other parts of chapter 04 are variants of it, described in ``PARTS``.
A plan is a list of specs, computed anew each time from the profile and the records that exist: so a study resumes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from petl_core import backbones, methods
from petl_core.data import load_task
from petl_core.errors import UserError
from petl_core.profiles import (
    BITFIT_BASE,
    DEFAULT_LR,
    DROP_PATHS,
    HIGH_LRS,
    LONGER,
    MORE_SEEDS,
    PUBLISHED_DECAYS,
    PUBLISHED_DROP_PATH,
    PUBLISHED_SEED,
    SCRATCH_LRS,
    Part,
    Profile,
    profile,
)
from petl_core.records import Records, RunSpec
from petl_core.train import Recipe
from petl_core.workers import Outcome, Planned, Runner


@dataclass(frozen=True)
class Trial:
    """One point of a method's grid."""

    hyper: dict[str, Any]
    lr: float
    drop_path: float = 0.0
    weight_decay: float | None = None  # None: the recipe's


def trials(method: str, k: int, drop_paths: Iterable[float] = DROP_PATHS, lrs: Iterable[float] = ()) -> list[Trial]:
    """The first ``k`` points of the method's grid, ``lrs`` x ``space`` x drop path, in an order that never changes.

    First every learning rate, all else at its default; then the points with one other value changed, at the first
    rate before the others; then those with two changed; and so on. ``lrs`` replaces the method's own rates.
    Raises ``UserError`` if the grid has fewer than ``k`` points, because every method gets the same number of trials.
    """
    cls = type(methods.get(method))
    rates = tuple(lrs) or tuple(cls.lrs)
    default = methods.get(method).hyper()
    axes = [[(name, value) for value in _default_first(default[name], values)] for name, values in cls.space.items()]
    axes.append([("drop_path", value) for value in drop_paths])
    points = []
    for index, rate in enumerate(rates):
        for places in itertools.product(*(range(len(axis)) for axis in axes)):
            changed = sum(place > 0 for place in places)
            chosen = dict(axis[place] for axis, place in zip(axes, places, strict=True))
            drop_path = chosen.pop("drop_path")
            points.append(((changed, index, sum(places), places[::-1]), Trial({**default, **chosen}, rate, drop_path)))
    points.sort(key=lambda point: point[0])
    if k < 1 or k > len(points):
        raise UserError(f"method '{method}' has {len(points)} points, not {k} to try; choose 1 to {len(points)} trials")
    return [trial for _, trial in points[:k]]


def _default_first(default: Any, values: Iterable[Any]) -> list[Any]:
    return [default, *(value for value in values if value != default)]


def published_trials(method: str) -> list[Trial]:
    """The published grid: as large as the study made it, so from 4 points for BitFit to 80 for ConvPass."""
    cls, default = type(methods.get(method)), methods.get(method).hyper()
    names = list(cls.published_space)
    return [
        Trial({**default, **dict(zip(names, values, strict=True))}, lr, PUBLISHED_DROP_PATH, decay)
        for values in itertools.product(*cls.published_space.values())
        for lr in HIGH_LRS
        for decay in PUBLISHED_DECAYS
    ]


def choose(specs: list[RunSpec], records: Records, ties: str = "smaller") -> RunSpec | None:
    """The trial with the highest validation accuracy after the last epoch; a diverged one never wins.

    ``ties="smaller"``: to the smaller model, then the smaller learning rate, then the smaller drop path, then the
    earlier; "latest": to the later point, as in the released code. None if a record is missing or all have diverged.
    """
    if not all(records.has(spec) for spec in specs):
        return None
    best: tuple[Any, RunSpec] | None = None
    for index, spec in enumerate(specs):
        metrics = records.get(spec)["metrics"]
        if metrics["diverged"] or metrics["accuracy"] is None:
            continue
        tie = (-metrics["params"], -spec.recipe.lr, -spec.recipe.drop_path, -index) if ties == "smaller" else (index,)
        if best is None or (metrics["accuracy"], *tie) > best[0]:
            best = ((metrics["accuracy"], *tie), spec)
    return best[1] if best else None


def trial_specs(study: Profile, task: str, method: str, points: list[Trial], **recipe: Any) -> list[RunSpec]:
    """The tuning runs of these points: train800 -> val200, first seed of the profile."""
    fixed = (study.tune, study.seeds[0], "train800", "val200")
    return [_spec(study, task, method, point, *fixed, **recipe) for point in points]


def final_specs(study: Profile, trial: RunSpec, seeds: Iterable[int] | None = None, **changes: Any) -> list[RunSpec]:
    """The final runs of a chosen trial: train1000 -> test, with the profile's final recipe and every seed.

    ``changes`` are fields of the spec (``track``) or of the recipe (``drop_path`` ...) that replace the trial's.
    """
    outer = {key: changes.pop(key) for key in list(changes) if key in ("track",)}
    kept = {key: getattr(trial.recipe, key) for key in ("lr", "weight_decay", "drop_path", "normalise", "decay")}
    recipe = dataclasses.replace(study.final, **{**kept, **changes})
    where: dict[str, Any] = {"train_on": "train1000", "evaluate_on": "test", "recipe": recipe}
    return [dataclasses.replace(trial, seed=seed, **where, **outer) for seed in (seeds or study.seeds)]


def _spec(
    study: Profile, task: str, method: str, point: Trial, recipe: Recipe, seed: int, train_on: str, on: str, **more: Any
) -> RunSpec:
    decay = recipe.weight_decay if point.weight_decay is None else point.weight_decay
    values = {"lr": point.lr, "drop_path": point.drop_path, "weight_decay": decay, **more}
    weights = weights_digest(study.backbone) if study.pretrained else "random"
    return RunSpec(
        backbone=study.backbone,
        weights=weights,
        method=method,
        hyper=point.hyper,
        task=task,
        task_digest=task_digest(task),
        recipe=dataclasses.replace(recipe, **values),
        seed=seed,
        train_on=train_on,
        evaluate_on=on,
        max_train=study.max_train,
        max_evaluate=study.max_evaluate,
    )


@functools.cache
def task_digest(name: str) -> str:
    """The digest of an embedded task's data."""
    return load_task(name).digest


@functools.cache
def weights_digest(backbone: str) -> str:
    """The digest of a backbone's weights."""
    return backbones.digest(backbone)


# The parts: each gives the trials that it needs and then, from their records, its final runs.
Cells = list[tuple[str, str]]  # (task, method)


def _ours(study: Profile, task: str, method: str) -> list[RunSpec]:
    return trial_specs(study, task, method, trials(method, study.trials, study.drop_paths))


def _our_trials(study: Profile, cells: Cells) -> list[Planned]:
    return [Planned(spec, "trial") for cell in cells for spec in _ours(study, *cell)]


def _chosen(study: Profile, cells: Cells, records: Records) -> list[RunSpec]:
    found = [choose(_ours(study, *cell), records) for cell in cells]
    return [spec for spec in found if spec is not None]


def _tuned(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [Planned(s, "tuned") for chosen in _chosen(study, cells, records) for s in final_specs(study, chosen)]


def _default(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    point = {method: Trial(methods.get(method).hyper(), DEFAULT_LR) for _, method in cells}
    return [
        Planned(_spec(study, task, method, point[method], study.final, seed, "train1000", "test"), "default")
        for task, method in cells
        for seed in study.seeds
    ]


def _drop_path(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, f"drop_path_{rate:g}")
        for chosen in _chosen(study, cells, records)
        for rate in study.drop_paths
        for spec in final_specs(study, chosen, drop_path=rate)
    ]


def _fewer_trials(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell, k in itertools.product(cells, range(1, study.trials + 1)):
        chosen = choose(_ours(study, *cell)[:k], records)
        if chosen is not None:
            plan += [Planned(spec, f"trials_{k}") for spec in final_specs(study, chosen)]
    return plan


def _high_lr(study: Profile, task: str, method: str) -> list[RunSpec]:
    count = min(study.trials, len(HIGH_LRS) * len(study.drop_paths))  # all there is: two rates, with and without
    return trial_specs(study, task, method, trials(method, count, study.drop_paths, HIGH_LRS))


def _high_lr_trials(study: Profile, cells: Cells) -> list[Planned]:
    high = [Planned(spec, "full_high_lr_trial") for cell in cells for spec in _high_lr(study, *cell)]
    return high + _our_trials(study, cells)


def _high_lr_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for cell in cells:
        for name, specs in (("full_high_lr", _high_lr(study, *cell)), ("full_low_lr", _ours(study, *cell))):
            chosen = choose(specs, records)
            if chosen is not None:
                plan += [Planned(spec, name) for spec in final_specs(study, chosen)]
    return plan


def _bitfit(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    plan = []
    for chosen in _chosen(study, cells, records):
        ours = {"lr": chosen.recipe.lr, "drop_path": study.drop_paths[-1], "normalise": "backbone"}
        recipes: dict[str, dict[str, Any]] = {"base": BITFIT_BASE, "all": ours}
        recipes |= {name: {**BITFIT_BASE, name: value} for name, value in ours.items()}
        for name, recipe in recipes.items():
            plan += [Planned(spec, f"bitfit_{name}") for spec in final_specs(study, chosen, **recipe)]
    return plan


def _best_on_test(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, "best_on_test")
        for chosen in _chosen(study, cells, records)
        for spec in final_specs(study, chosen, track=True)
    ]


def _more_seeds(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    seeds = sorted({*study.seeds, *MORE_SEEDS})
    return [
        Planned(spec, "more_seeds")
        for chosen in _chosen(study, cells, records)
        for spec in final_specs(study, chosen, seeds=seeds)
    ]


def _longer(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    return [
        Planned(spec, "longer")
        for chosen in _chosen(study, cells, records)
        for spec in final_specs(study, chosen, epochs=LONGER * study.final.epochs)
    ]


def _published(study: Profile, task: str, method: str) -> list[RunSpec]:
    once = dataclasses.replace(study, seeds=(PUBLISHED_SEED,))
    return trial_specs(once, task, method, published_trials(method), decay="all")


def _published_trials(study: Profile, cells: Cells) -> list[Planned]:
    return [Planned(spec, "published_trial") for cell in cells for spec in _published(study, *cell)]


def _published_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    found = [choose(_published(study, *cell), records, ties="latest") for cell in cells]
    return [
        Planned(spec, "published")
        for chosen in found
        if chosen is not None
        for spec in final_specs(study, chosen, seeds=(PUBLISHED_SEED,))
    ]


def _scratch(study: Profile, task: str, method: str) -> list[RunSpec]:
    points = trials(method, study.trials, study.drop_paths, SCRATCH_LRS)
    return trial_specs(dataclasses.replace(study, pretrained=False), task, method, points)


def _scratch_trials(study: Profile, cells: Cells) -> list[Planned]:
    return [Planned(spec, "scratch_trial") for cell in cells for spec in _scratch(study, *cell)]


def _scratch_finals(study: Profile, cells: Cells, records: Records) -> list[Planned]:
    found = [choose(_scratch(study, *cell), records) for cell in cells]
    return [Planned(s, "scratch") for chosen in found if chosen is not None for s in final_specs(study, chosen)]


@dataclass(frozen=True)
class PartPlan:
    """How a part makes its runs, and what it is about. ``only`` restricts it to some methods."""

    about: str
    finals: Callable[[Profile, Cells, Records], list[Planned]]
    trials: Callable[[Profile, Cells], list[Planned]] = _our_trials
    only: tuple[str, ...] | None = None


PARTS = {
    "tuned": PartPlan("our protocol: equal trials, chosen on val200, every seed on test", _tuned),
    "default": PartPlan(
        f"no tuning: default size, learning rate {DEFAULT_LR:g}, no drop path", _default, lambda study, cells: []
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


def _cells(study: Profile, part: Part) -> Cells:
    plan = PARTS[part.name]
    chosen = part.methods or plan.only or study.methods
    if plan.only:
        chosen = tuple(m for m in chosen if m in plan.only)
    return [(task, method) for task in part.tasks or study.tasks for method in chosen]


def plan_trials(study: Profile, parts: Iterable[str] | None = None) -> list[Planned]:
    """All tuning runs of the named parts (default: every part of the profile)."""
    wanted = [study.part(name) for name in parts] if parts else study.parts
    return [planned for part in wanted for planned in PARTS[part.name].trials(study, _cells(study, part))]


def plan_finals(study: Profile, records: Records, parts: Iterable[str] | None = None) -> list[Planned]:
    """All final runs of the named parts that the trials in ``records`` decide."""
    wanted = [study.part(name) for name in parts] if parts else study.parts
    plan = []
    for part in wanted:
        fewer = dataclasses.replace(study, seeds=study.seeds[: part.seeds])
        plan += PARTS[part.name].finals(fewer, _cells(study, part), records)
    return plan


def run_plan(
    plan: Iterable[Planned], records: Records, workers: int | None = None, device: str = "cpu", progress: bool = True
) -> Outcome:
    """Run what has no record yet. ``workers``: processes of one thread; 0 or 1 in this process; None one per core."""
    with Runner(records, workers, device, progress) as runner:
        return runner.run(plan)


def run_study(
    study: Profile | str,
    records: Records,
    workers: int | None = None,
    parts: Iterable[str] | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Outcome:
    """The trials, then the choice, then the final runs; may be killed and started again at any moment."""
    study = profile(study) if isinstance(study, str) else study
    parts = list(parts) if parts else None
    trials_planned = plan_trials(study, parts)
    with Runner(records, workers, device or study.device, progress) as runner:
        outcome = runner.run(trials_planned)
        return outcome + runner.run(plan_finals(study, records, parts))
