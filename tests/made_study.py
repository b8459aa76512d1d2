"""A study that no training made, with a known truth: its records as a table, and predictions that fit it."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from petl_core.study.profiles import profile
from petl_core.study.records import COLUMNS
from petl_guide.results import Results

TASKS = tuple(f"t{number:02d}" for number in range(11))
PARAMS = {"linear": 0, "bitfit": 100, "ssf": 300, "lora": 3000, "adaptformer": 10_000, "vpt_deep": 30_000}
PARAMS |= {"repadapter": 100_000, "full": 900_000}
QUICK = TASKS[:3]
REPEATED, LONGER = ("full", "bitfit", "ssf", "lora"), ("linear", "full", "bitfit", "ssf", "lora")
RATES = (1e-3, 3e-3, 1e-2)
IMAGES, CLASSES = 400, 4
Truth = Callable[[str, str], float]


def random_of(*names: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def usual(task: str, method: str) -> float:
    """PEFT methods level on every task, 15 points above linear probing and 6 above full fine-tuning."""
    return 80 - TASKS.index(task) * 2 - {"linear": 15, "full": 6}.get(method, 0)


def large_pay(task: str, method: str) -> float:
    """On the farther half of the tasks ten times the parameters gain three points."""
    decades = np.log10(max(PARAMS[method], 100)) - 2 if method not in ("linear", "full") else 0
    return usual(task, method) + 3 * decades * (TASKS.index(task) > 5) - 10 * (TASKS.index(task) > 5)


class MadeRecords:
    """Stands for ``Records``: logits whose mistakes are those of the image, of the method (where it ``matters``) and of
    the seed."""

    def __init__(self, *, matters: bool = True) -> None:
        self.matters = matters
        self.runs: dict[str, tuple[str, str, int, float]] = {}

    def get(self, digest: str) -> dict:
        return {"predictions": digest in self.runs}

    def predictions(self, digest: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        task, method, seed, accuracy = self.runs[digest]
        labels = random_of(task).integers(0, CLASSES, IMAGES)
        parts = [random_of(task, "image"), random_of(task, method if self.matters else (method, seed))]
        hard = sum(part.standard_normal(IMAGES) for part in (*parts, random_of(task, method, seed)))
        wrong = hard >= np.sort(hard)[min(round(accuracy / 100 * IMAGES), IMAGES - 1)]
        moved = random_of(task, method if self.matters else "").integers(1, CLASSES, IMAGES) * wrong
        logits = np.zeros((IMAGES, CLASSES), dtype=np.float32)
        logits[np.arange(IMAGES), (labels + moved) % CLASSES] = 3 - np.clip(hard / 2, -2, 2)
        return logits, labels, tuple(map(str, range(IMAGES)))


def made(
    truth: Truth = usual,
    *,
    noise: float = 0.3,
    longer: Mapping[str, float] | None = None,
    at_edge: Sequence[str] = (),
    matters: bool = True,
    tasks: Sequence[str] = TASKS,
    parts: Sequence[str] = ("repeats", "longer", "drop_path"),
) -> Results:
    """The study: tuned runs, and these other parts. ``longer``: what twice the epochs gain; methods ``at_edge`` chose
    the highest of their rates, which is five points above the next."""
    records, rows = MadeRecords(matters=matters), []

    def add(variant: str, task: str, method: str, seed: int, accuracy: float, **more: object) -> None:
        digest = f"{len(rows):016x}"
        rate = RATES[-1] if method in at_edge else RATES[1]
        row = {"digest": digest, "task": task, "method": method, "seed": seed, "variant": variant, "lr": rate}
        row |= {"stage": "final", "backbone": "mini", "hyper": "{}", "group": "natural", "classes": CLASSES}
        row |= {"drop_path": 0.0, "weight_decay": 1e-4, "l2_sp": 0.0, "layer_decay": 1.0, "diverged": False}
        rows.append({**row, "accuracy": accuracy, "params": PARAMS[method], "train_accuracy": 100.0, **more})
        if variant == "tuned":
            records.runs[digest] = (task, method, seed, accuracy)

    def finals(variant: str, task: str, method: str, gain: float = 0.0) -> None:
        for seed in (0, 1, 2):
            error = noise * random_of(variant, task, method, seed).standard_normal()
            add(variant, task, method, seed, truth(task, method) + gain + error)

    for task, method in itertools.product(tasks, PARAMS):
        for rate in RATES:
            chosen = rate == (RATES[-1] if method in at_edge else RATES[1])
            add("trial", task, method, 0, truth(task, method) - 5 * (not chosen), stage="trial", lr=rate)
        finals("tuned", task, method)
        if task in QUICK and method in REPEATED and "repeats" in parts:
            finals("repeat_1", task, method)
            finals("repeat_2", task, method)
        if task in QUICK and method in LONGER and "longer" in parts:
            add("longer_trial", task, method, 0, truth(task, method), stage="trial")
            finals("longer", task, method, (longer or {}).get(method, 0.2))
        if method in ("bitfit", "lora", "ssf") and "drop_path" in parts:
            finals("drop_path_0", task, method)
            finals("drop_path_0.1", task, method, 2.0)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return Results(profile("laptop"), records, fresh=True, chosen=table)
