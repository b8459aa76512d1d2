"""A time that the user gives, and the speed of a method on this machine."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

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
