"""Our protocol, "tuned": which trials, which choice, which final runs; beside it the grid of the published one.

Every method has the same number of trials on train800, judged on val200 after the last epoch; the choice is trained
again on train1000 with every seed, and the test images are looked at once. Trials are the first points of a fixed grid
(``trials``; ties to the smaller model, then the smaller learning rate) or an adaptive search decides on them
(``study.search``; ties to the smaller learning rate, then the smaller model). These functions turn that into specs;
``study.parts`` says which, ``study.plan`` runs them.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from petl_core import methods
from petl_core.data import load_task
from petl_core.models import weights as backbones
from petl_core.study.profile import DROP_PATHS, HIGH_LRS, PUBLISHED_DECAYS, PUBLISHED_DROP_PATH, REPEAT_SEED, Profile
from petl_core.study.records import Records, RunSpec
from petl_core.study.search import Trial, Tried, better
from petl_core.training.train import Recipe
from petl_core.utils import UserError


def trials(
    method: str,
    k: int,
    drop_paths: Iterable[float] = DROP_PATHS,
    lrs: Iterable[float] = (),
    fixed: dict[str, Any] | None = None,
    published: bool = False,
) -> list[Trial]:
    """The first ``k`` points of the method's grid, ``lrs`` x ``space`` x drop path, in an order that never changes.

    First every learning rate, all else at its default; then the points with one other value changed, at the first
    rate before the others; then those with two changed; and so on. ``lrs`` replaces the method's own rates;
    ``published`` takes the study's sizes and scales instead of ``space``; ``fixed`` hyper-parameters leave only rates.
    Raises ``UserError`` if the grid has fewer than ``k`` points, because every method gets the same number of trials.
    """
    cls = type(methods.get(method))
    rates = tuple(lrs) or tuple(cls.lrs)
    default = methods.get(method, **(fixed or {})).hyper()
    space = {} if fixed is not None else cls.published_space if published else cls.space
    axes = [[(name, value) for value in _default_first(default[name], values)] for name, values in space.items()]
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


def trials_of(study: Profile, method: str) -> list[Trial]:
    """What the profile tries of a method."""
    return trials(method, study.trials, study.drop_paths, study.lrs_of(method), published=study.published_sizes)


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
    earlier; "lower_rate": to the smaller learning rate, then the smaller model, then the earlier; "latest": to the
    later point, as in the released code. None if a record is missing or all have diverged.
    """
    if not all(records.has(spec) for spec in specs):
        return None
    if ties == "lower_rate":
        tried = [tried_of(spec, records) for spec in specs]
        winner = better(tried)
        return None if winner is None else specs[next(i for i, one in enumerate(tried) if one is winner)]
    best: tuple[Any, RunSpec] | None = None
    for index, spec in enumerate(specs):
        metrics = records.get(spec)["metrics"]
        if metrics["diverged"] or metrics["accuracy"] is None:
            continue
        tie = (-metrics["params"], -spec.recipe.lr, -spec.recipe.drop_path, -index) if ties == "smaller" else (index,)
        if best is None or (metrics["accuracy"], *tie) > best[0]:
            best = ((metrics["accuracy"], *tie), spec)
    return best[1] if best else None


def tried_of(spec: RunSpec, records: Records) -> Tried:
    """A trial that has a record, as the search looks at it."""
    metrics = records.get(spec)["metrics"]
    point = Trial(spec.hyper, spec.recipe.lr, spec.recipe.drop_path)
    return Tried(point, None if metrics["diverged"] else metrics["accuracy"], metrics["params"])


def trial_specs(study: Profile, task: str, method: str, points: list[Trial], **recipe: Any) -> list[RunSpec]:
    """The tuning runs of these points: train800 -> val200, first seed of the profile. Those of a repeat r of the
    protocol have the seed 100 + r, and train1000 is parted anew into train800#r<r> and val200#r<r>."""
    fixed = (study.tune, study.seeds[0], "train800", "val200")
    if study.repeat:
        fixed = (study.tune, REPEAT_SEED + study.repeat, f"train800#r{study.repeat}", f"val200#r{study.repeat}")
    return [make_spec(study, task, method, point, *fixed, **recipe) for point in points]


def final_specs(study: Profile, trial: RunSpec, seeds: Iterable[int] | None = None, **changes: Any) -> list[RunSpec]:
    """The final runs of a chosen trial: train1000 -> test, with the profile's final recipe and every seed.

    ``changes`` replace fields of the spec (``track``, ``measure``) or of the recipe (``drop_path`` ...).
    """
    outer = {key: changes.pop(key) for key in list(changes) if key in ("track", "measure")}
    chosen = ("lr", "weight_decay", "drop_path", "normalise", "decay", "l2_sp", "layer_decay")
    recipe = dataclasses.replace(study.final, **{key: getattr(trial.recipe, key) for key in chosen} | changes)
    where: dict[str, Any] = {"train_on": "train1000", "evaluate_on": "test", "recipe": recipe}
    where["max_train"] = study.max_train
    return [dataclasses.replace(trial, seed=seed, **where, **outer) for seed in (seeds or study.seeds)]


def make_spec(
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
        task_digest=task_digest(task, study.image_size),
        recipe=dataclasses.replace(recipe, **values),
        seed=seed,
        train_on=train_on,
        evaluate_on=on,
        max_train=study.max_train,
        max_evaluate=study.max_evaluate,
        image_size=study.image_size,
    )


def task_digest(name: str, size: int | None = None) -> str:
    """The digest of a task's data at an image size (None: the task's own)."""
    return _digest_or_absent(f"task {name}", lambda: _task_digest(name, size))


def weights_digest(backbone: str) -> str:
    """The digest of a backbone's weights."""
    return _digest_or_absent(f"weights of {backbone}", lambda: _weights_digest(backbone))


@contextlib.contextmanager
def absent_allowed() -> Iterator[dict[str, str]]:
    """Inside, specs can be made for data and weights that are not on this machine: in place of a digest they have the
    word "absent", so that they can be counted but neither be run nor have a record. Gives what is absent, with the
    reason; nothing is downloaded."""
    absent: dict[str, str] = {}
    token = _ABSENT.set(absent)
    try:
        yield absent
    finally:
        _ABSENT.reset(token)


_ABSENT: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("absent", default=None)


def _digest_or_absent(what: str, digest: Callable[[], str]) -> str:
    absent = _ABSENT.get()
    if absent is None:
        return digest()
    if what not in absent:
        try:
            return digest()
        except UserError as error:
            absent[what] = str(error)
    return "absent"


@functools.cache
def _task_digest(name: str, size: int | None) -> str:
    return load_task(name, size=size).digest


@functools.cache
def _weights_digest(backbone: str) -> str:
    if _ABSENT.get() is not None and not backbones.is_here(backbone):
        raise UserError("not on this machine yet; the study fetches them when it starts")
    return backbones.digest(backbone)
