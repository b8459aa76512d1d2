"""A time that the user gives, the speed of a method on this machine, and how much of a comparison fits: its plan.

The plan is a rung of ``LADDER``: equal trials for every method, longer runs and more seeds before more trials. It is
chosen before anything is trained, from steps that were timed on the user's own images.
"""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from petl_core.data.task import Task
from petl_core.models.build import count_trainable, create_model
from petl_core.models.weights import config_of
from petl_core.study.time import HEAD, Speed, head_only
from petl_core.training.train import Recipe, predict, take, train
from petl_core.utils import UserError

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BATCH = 32
FEW = 8  # images that are timed first
MEASURE, ROUNDS = 1.5, 3  # seconds for timing a method's steps, in so many rounds, if the first images take less
MOST_EPOCHS = 100  # of a final run; the published protocol's
USED = 0.85  # of the budget is planned for; the rest is for what the timing did not see
WORKERS_START = 5.0  # seconds until worker processes have imported torch and decoded the images
SHARING = 1.15  # a run beside others takes longer than one alone
LADDER = (  # (trials of each method, steps of a final run, seeds)
    (2, 20, 1),
    (2, 50, 2),
    (3, 100, 2),
    (4, 100, 3),
    (4, 200, 3),
    (6, 200, 3),
    (6, 400, 3),
    (8, 400, 3),
    (8, 800, 3),
    (12, 800, 5),
    (12, 1600, 5),
    (12, 3200, 5),
)


def seconds_of(budget: str | float) -> float:
    """Seconds of "90s", "10m", "1.5h", "1h30m" or a number. ``UserError`` for anything else, zero included."""
    allowed = 'write a number with s, m, h or d, such as "90s", "10m" or "1h30m"'
    if isinstance(budget, bool) or not isinstance(budget, (int, float, str)):
        raise UserError(f"budget is {budget!r}; {allowed}")
    if isinstance(budget, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", budget.strip().lower())
        whole = re.fullmatch(r"(\s*\d+(?:\.\d+)?\s*[a-z]*\s*)+", budget.strip().lower())
        unknown = [unit for _, unit in parts if unit not in UNITS]
        if not whole or not parts or unknown:
            raise UserError(f"budget is {budget!r}; {allowed}")
        budget = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"budget is {budget!r}; it must be more than no time: {allowed}")
    return float(budget)


def clock(seconds: float) -> str:
    """A duration in words that ``seconds_of`` reads: "42s", "3m20s", "1h05m"."""
    seconds = math.ceil(seconds)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


@dataclass(frozen=True)
class Plan:
    """What is run: ``trials`` for each method, each for ``trial_epochs``, then ``seeds`` runs of ``final_epochs``."""

    trials: int
    steps: int
    seeds: int
    trial_epochs: int
    final_epochs: int
    workers: int
    seconds: float

    def text(self, count: int) -> str:
        """The plan for ``count`` methods as a sentence."""
        trials, epochs = _counted(self.trials, "trial"), _counted(self.trial_epochs, "epoch")
        return (
            f"{trials} of {epochs} for each of {count} methods, chosen on validation; then "
            f"{_counted(self.seeds, 'seed')} of {self.final_epochs} epochs each: "
            f"{count * (self.trials + self.seeds)} runs"
        )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def measure(
    backbone: str, method: str, task: Task, device: str, recipe: Recipe | None = None, *, pretrained: bool = True
) -> Speed:
    """Time a method on a few images of a task, as its runs will be: one thread on a CPU.

    Steps are those of ``recipe`` (default: batches of ``BATCH``). Of ``ROUNDS`` rounds the median counts, which one
    hiccup of the machine cannot move; where the network is so slow that the first few images take long, these count.
    """
    recipe = recipe or Recipe(batch_size=BATCH)
    count = min(len(task.splits["train800"]), recipe.batch_size)
    few, (pictures, *_) = min(FEW, count), take(task, "train800", count)
    config_of(backbone)  # which imports timm, before anything is timed
    with threads(1 if device == "cpu" else None):
        start = time.perf_counter()
        size, classes = task.image_size, task.num_classes
        model = create_model(backbone, method, num_classes=classes, image_size=size, pretrained=pretrained).to(device)
        build = time.perf_counter() - start

        def to_train(most: int, epochs: int) -> float:
            its = replace(recipe, epochs=epochs)
            run = train(model, task, its, train_on="train800", max_train=most, max_evaluate=1, evaluate_on="val200")
            return run.seconds / (most * epochs)

        def to_evaluate(most: int) -> float:
            start = time.perf_counter()
            predict(model, pictures[:most], recipe)
            return (time.perf_counter() - start) / most

        to_train(1, 1)  # to warm up
        each, evaluate = to_train(few, 1), to_evaluate(few)
        if epochs := int(MEASURE / ROUNDS / (each * count)):
            each = statistics.median(to_train(count, epochs) for _ in range(ROUNDS))
            evaluate = statistics.median(to_evaluate(count) for _ in range(ROUNDS))
    only_head = count_trainable(model) == 0 and head_only(method, recipe)
    return Speed(build, HEAD * evaluate if only_head else each, evaluate, only_head)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for torch, inside (None: as it is)."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def epochs_of(steps: int, images: int) -> int:
    """Epochs that make about ``steps`` steps on so many images."""
    return max(1, min(MOST_EPOCHS, round(steps / math.ceil(images / BATCH))))


def make_plan(
    speeds: Mapping[str, Speed],
    sizes: Mapping[str, int],
    budget: float,
    workers: int,
    most_trials: int,
    fixed: Mapping[str, int] | None = None,
    gone: float = 0.0,
) -> Plan:
    """The highest rung of ``LADDER`` that fits into ``budget`` seconds.

    ``sizes``: images in each split. ``workers``: how many processes there may be; one is taken where starting more does
    not pay. ``most_trials``: points of the smallest grid. ``fixed``: trials, steps or seeds that the user wants.
    ``gone``: seconds of the budget that are over.
    Raises ``UserError`` with the least that is needed if no rung fits.
    """
    plans = []
    for trials, steps, seeds in LADDER:
        wanted = {"trials": min(trials, most_trials), "steps": steps, "seeds": seeds, **(fixed or {})}
        plans.append(_costed(speeds, sizes, workers, **wanted))
    fitting = [plan for plan in plans if plan.seconds <= USED * (budget - gone)]
    if not fitting:
        least = gone + min(plan.seconds for plan in plans) / USED
        raise UserError(
            f"a budget of {clock(budget)} is too small: the least comparison of {len(speeds)} methods takes about "
            f'{clock(least)} here; give budget="{clock(1.1 * least)}" or more, or compare fewer methods'
        )
    return max(fitting, key=lambda plan: plan.seconds)


def _costed(
    speeds: Mapping[str, Speed], sizes: Mapping[str, int], workers: int, trials: int, steps: int, seeds: int
) -> Plan:
    final = epochs_of(steps, sizes["train1000"])
    trial = max(1, round(final / 2))
    alone = sum(
        trials * speed.seconds(sizes["train800"], trial, sizes["val200"])
        + seeds * speed.seconds(sizes["train1000"], final, sizes["test"])
        for speed in speeds.values()
    )
    shared = alone / workers * SHARING + WORKERS_START if workers > 1 else math.inf
    return Plan(trials, steps, seeds, trial, final, workers if shared < alone else 1, min(alone, shared))
