"""Specs and finished runs that no training made, for the tests of records."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from petl_core.study.records import RunSpec
from petl_core.training.recipe import Recipe
from petl_core.training.train import Run


def make_spec(**changes) -> RunSpec:
    values = {"backbone": "mini", "weights": "w", "method": "lora", "hyper": {"rank": 4}, "task": "digits"}
    return RunSpec(**{**values, "task_digest": "d", "recipe": Recipe(lr=1e-3, epochs=2), **changes})


def make_run(seed: int = 0, count: int = 50, diverged: bool = False, **changes) -> Run:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 4)).astype(np.float16)
    labels = np.arange(count) % 4
    score = math.nan if diverged else 100 * float(np.mean(logits.argmax(1) == labels))
    history = [{"epoch": 1, "loss": 1.25, "train_accuracy": 40.0, "lr": 1e-3}]
    run = Run(score, "test", logits, labels, tuple(f"id{i}" for i in range(count)), 55.0, 1.5, diverged, history, 8, 99,
              "natural", 700.0)  # fmt: skip
    return dataclasses.replace(run, **changes)
