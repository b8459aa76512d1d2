"""Predictions of several runs are read in one order; those that do not match are refused by name."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petl_core.study import predictions
from petl_core.study.records import Records, RunSpec
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError
from petl_guide import runs as select


def saved(records: Records, method: str, seed: int = 0, **changes) -> str:
    spec = RunSpec("mini", "w", method, {}, changes.pop("task", "digits"), "d", Recipe(lr=1e-3, epochs=2), seed)
    random = np.random.default_rng(seed)
    n = 40
    values = {"logits": random.normal(size=(n, 4)).astype(np.float16), "labels": np.arange(n) % 4}
    values |= {"ids": tuple(f"id{i}" for i in range(n))} | changes
    diverged = changes.pop("diverged", False)
    values.pop("diverged", None)
    run = Run(50.0, "test", values["logits"], values["labels"], values["ids"], 55.0, 1.5, diverged, [], 8, 99,
              "natural", 700.0)  # fmt: skip
    records.save(spec, dataclasses.replace(run, accuracy=math.nan) if diverged else run, "tuned")
    return spec.digest


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_load_reads_what_was_saved(records: Records) -> None:
    digests = [saved(records, "lora"), saved(records, "ssf")]
    found = predictions.load(records, select.runs(records.table()))
    assert list(found.runs["digest"]) == digests and found.logits.shape == (2, 40, 4)
    assert found.logits[1] == pytest.approx(records.predictions(digests[1])[0].astype(np.float32))
    assert found.of(["ssf"]).logits.shape == (1, 40, 4)
    with pytest.raises(UserError, match="no predictions on digits by bitfit seed 0"):
        found.of(["bitfit"])


ORDER = tuple(f"id{i}" for i in reversed(range(40)))
OTHER = tuple(f"other{i}" for i in range(40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ORDER}, "other images, or the same in another order"),
        ({"ids": OTHER}, "other images"),
        ({"labels": np.arange(40)[::-1] % 4}, "other labels of the same images"),
        ({"logits": np.zeros((40, 5), np.float16)}, r"logits of different shapes, \(40, 4\) and \(40, 5\)"),
    ],
)
def test_runs_that_do_not_match_are_refused_by_name(records: Records, changes: dict, message: str) -> None:
    one, two = saved(records, "lora"), saved(records, "ssf", **changes)
    with pytest.raises(UserError, match=f"records {one} and {two} of digits have {message}"):
        predictions.load(records, select.runs(records.table()).sort_values("method"))


def test_other_runs_that_cannot_be_compared(records: Records) -> None:
    saved(records, "lora")
    bad = saved(records, "ssf", diverged=True)
    table = select.runs(records.table())
    with pytest.raises(UserError, match=f"records {bad} of digits diverged and predict nothing"):
        predictions.load(records, table)
    good = table[table["method"] == "lora"]
    with pytest.raises(UserError, match="of digits appear twice"):
        predictions.load(records, pd.concat([good, good]))
    with pytest.raises(UserError, match="these runs are of digits, glyphs"):
        predictions.load(records, pd.concat([good, good.assign(task="glyphs")]))
    infinite = np.full((40, 4), np.inf, np.float16)
    digest = saved(records, "bitfit", logits=infinite)
    chosen = select.runs(records.table(), methods=["bitfit"])
    with pytest.raises(UserError, match=f"record {digest} of digits has logits that are not finite"):
        predictions.load(records, chosen)
