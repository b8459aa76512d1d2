"""Tables as ``Records.table()`` gives them, made for the tests of the guide's analyses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from petl_core.study.records import COLUMNS

GROUP = {"a": "natural", "b": "natural", "c": "specialised", "d": "structured", "e": "specialised", "f": "structured"}


def synthetic(
    value=lambda task, method, seed: 50.0,
    tasks=("a", "b", "c", "d"),
    methods=("linear", "full", "lora", "bitfit"),
    seeds=(0, 1, 2),
    **columns,
) -> pd.DataFrame:
    """A table as ``Records.table()`` gives it; ``value(task, method, seed)`` is the accuracy."""
    rows = []
    for number, (task, method, seed) in enumerate(itertools.product(tasks, methods, seeds)):
        row = dict.fromkeys(COLUMNS, math.nan)
        row |= {"digest": f"{number:016x}", "backbone": "mini", "method": method, "hyper": "{}", "task": task}
        row |= {
            "group": GROUP[task],
            "seed": seed,
            "stage": "final",
            "diverged": False,
            "variant": "tuned",
            "classes": 4,
        }
        rows.append(row | {"accuracy": value(task, method, seed)} | columns)
    return pd.DataFrame(rows, columns=COLUMNS)


def noisy(scale: float = 1.0, of_method=lambda m: 0.0, seed: int = 0, **more) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return synthetic(lambda t, m, s: 60 + of_method(m) + scale * random.standard_normal(), **more)
