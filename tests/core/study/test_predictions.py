"""The predictions of several runs: read as they were saved, and refused where they do not match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import make_run, make_spec

from petl_core.study import predictions
from petl_core.study.records import Records
from petl_core.utils import UserError


def saved(records: Records, method: str, **changes) -> str:
    spec = make_spec(method=method, hyper={})
    run = make_run(count=40, **{"ids": tuple(f"id{i}" for i in range(40)), **changes})
    records.save(spec, run, "tuned")
    return spec.digest


def table(records: Records, *methods: str) -> pd.DataFrame:
    """The rows of these methods (default: all), by method."""
    rows = records.table().sort_values("method")
    return rows[rows["method"].isin(methods)] if methods else rows


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_load_reads_what_was_saved(records: Records) -> None:
    digests = [saved(records, "lora"), saved(records, "ssf")]
    found = predictions.load(records, table(records))
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
        predictions.load(records, table(records))


def test_other_runs_that_cannot_be_compared(records: Records) -> None:
    saved(records, "lora")
    bad = saved(records, "ssf", diverged=True)
    with pytest.raises(UserError, match=f"records {bad} of digits diverged and predict nothing"):
        predictions.load(records, table(records))
    good = table(records, "lora")
    with pytest.raises(UserError, match="of digits appear twice"):
        predictions.load(records, pd.concat([good, good]))
    with pytest.raises(UserError, match="these runs are of digits, glyphs"):
        predictions.load(records, pd.concat([good, good.assign(task="glyphs")]))
    infinite = np.full((40, 4), np.inf, np.float16)
    digest = saved(records, "bitfit", logits=infinite)
    chosen = table(records, "bitfit")
    with pytest.raises(UserError, match=f"record {digest} of digits has logits that are not finite"):
        predictions.load(records, chosen)
