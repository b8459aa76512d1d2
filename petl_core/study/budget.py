"""A time that the user gives, and the speed of a method on this machine, timed on the user's own images."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from petl_core import methods
from petl_core.data import Task
from petl_core.models.build import count_trainable, create_model
from petl_core.study.time import HEAD, Speed
from petl_core.training.train import Recipe, predict, train
from petl_core.utils import UserError

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BATCH = 32
MEASURE = 3.0  # seconds at most for timing a method's steps, if eight images take less
TIMES = 5


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


def measure(backbone: str, method: str, task: Task, device: str) -> Speed:
    """Time one method on a few of the task's own images, as its runs will be: one thread on a CPU.

    Each part is timed ``TIMES`` times and the median counts, which a single hiccup of the machine cannot move."""
    with threads(1 if device == "cpu" else None):
        start = time.perf_counter()
        model = create_model(backbone, method, num_classes=task.num_classes, image_size=task.image_size).to(device)
        build = time.perf_counter() - start
        recipe = Recipe(lr=type(methods.get(method)).lrs[0], epochs=1, batch_size=BATCH)
        pool = task.splits["train800"]

        def seconds(count: int) -> float:
            once = train(
                model, task, recipe, max_train=count, max_evaluate=1, train_on="train800", evaluate_on="val200"
            )
            return once.seconds / count

        each = seconds(min(8, len(pool)))  # to warm up
        count = min(len(pool), BATCH, int(MEASURE / (TIMES * each)))
        if count >= min(8, len(pool)):  # else the warm-up was long enough to be the measurement
            each = statistics.median(seconds(count) for _ in range(TIMES))
        images = task.images[pool[: max(count, 1)]]
        evaluate = statistics.median(_timed(lambda: predict(model, images)) for _ in range(TIMES)) / len(images)
    head_only = count_trainable(model) == 0
    return Speed(build, HEAD * evaluate if head_only else each, evaluate, head_only)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for torch, inside (None: as it is)."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
