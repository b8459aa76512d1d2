"""The study on real photographs beside the embedded one: what carries over to a larger backbone and other images.

The records are those of the profile "real" (ViT-Ti on folders below PETL_DATA), shipped in ``data/results/real``. They
are read whatever profile a notebook runs at, because the photographs cannot be shipped with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from petl_core.study.statistics import Interval
from petl_guide import runs as select
from petl_guide.accuracy import MEAN, by_group, interval_over, scores
from petl_guide.low_shot import ranks, variance
from petl_guide.results import Results, open_results

CLOSE = 2.0  # points from the best mean


def open_real() -> Results:
    """The shipped records of the profile "real", its tasks named without their folder."""
    results = open_results("real")
    return results.of(results.table.assign(task=results.table["task"].map(short)))


def short(task: str) -> str:
    """ "vtab:vtab_processed/eurosat" -> "eurosat"."""
    return task.rpartition("/")[2]


def same_methods(studies: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tuned runs of each study, of the methods that all of them have."""
    shared = set.intersection(*(set(runs["method"]) for runs in studies.values()))
    return {name: select.grid(runs[runs["method"].isin(shared)]) for name, runs in studies.items()}


def studies_beside(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """For each study (its tuned runs) what the claim of similar accuracy rests on: a row for each quantity.

    Standard deviations and differences in points, the latter with intervals over tasks. Give the studies the same
    methods (``same_methods``).
    """
    columns = {name: _quantities(runs) for name, runs in studies.items()}
    return pd.DataFrame(columns).rename_axis("").reset_index()


def _quantities(runs: pd.DataFrame) -> dict[str, str]:
    overall = _overall(runs)
    peft = select.peft(overall.index)
    near = sum(overall[peft].max() - overall[m] <= CLOSE for m in peft)
    part = variance.components(runs[runs["method"].isin(peft)])
    matrix = scores(runs[runs["method"].isin(peft)])
    test, (apart, pairs) = ranks.friedman(matrix), ranks.separated(matrix)
    return {
        "tasks": str(runs["task"].nunique()),
        f"PEFT methods within {CLOSE:g} points of their best": f"{near} of {len(peft)}",
        "sd between PEFT methods": f"{part.method:.2f} [{part.method_low:.2f}, {part.method_high:.2f}]",
        "sd of method × task": f"{part.interaction:.2f}",
        "sd between seeds": f"{part.seed:.2f}",
        "tasks agree on the order (Kendall's W)": f"{test.w:.2f}",
        "pairs told apart by ranks": f"{apart} of {pairs}",
        "PEFT minus linear probing": str(ahead(runs, "linear")),
        "PEFT minus full fine-tuning": str(ahead(runs, "full")),
    }


def _overall(runs: pd.DataFrame) -> pd.Series:
    """The mean of groups of each method."""
    table = by_group(runs)
    return table[table["group"] == MEAN].set_index("method")["mean"]


def ahead(runs: pd.DataFrame, baseline: str) -> Interval:
    """The mean of the PEFT methods minus a baseline, points, with an interval over tasks."""
    matrix = scores(runs)
    difference = (matrix[select.peft(matrix.columns)].mean(axis=1) - matrix[baseline]).rename("difference")
    return interval_over(difference.rename_axis("task").reset_index(), "task", "difference")


def order_agreement(studies: Sequence[pd.DataFrame]) -> float:
    """Spearman's correlation of the mean accuracies (of groups) of the PEFT methods in two studies."""
    both = pd.concat([_overall(runs) for runs in studies], axis=1).dropna()
    return float(both.loc[select.peft(both.index)].corr(method="spearman").iloc[0, 1])
