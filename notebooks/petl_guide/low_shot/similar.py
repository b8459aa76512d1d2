"""The study's first finding, judged part by part: similar accuracy when tuned, and better than both baselines.

Each part is "supported", "contradicted" or "undecided" by a rule that was fixed before the numbers were seen. The rules
compare intervals, so that little data gives "undecided" and not a side.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from petl_core.study.statistics import Interval
from petl_guide import published
from petl_guide.accuracy import MEAN, by_group, scores
from petl_guide.low_shot import ranks, tuning, variance
from petl_guide.runs import common, peft, runs
from petl_guide.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, side

FEWEST_TASKS = 5  # for a bootstrap over tasks


def deviations(scores: pd.DataFrame, draws: int = 2000) -> tuple[float, np.ndarray]:
    """The standard deviation between methods (columns) of their means over tasks (rows), and the same of ``draws``
    resamples of the tasks (always the same ones for as many tasks)."""
    values = scores.to_numpy()
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    return float(values.mean(axis=0).std(ddof=1)), values[picks].mean(axis=1).std(axis=1, ddof=1)


def spread_change(before: pd.DataFrame, after: pd.DataFrame) -> tuple[float, float, Interval]:
    """The ``deviations`` of two sets of runs on their common cells, and the change from the first to the second.

    The interval of the change is a bootstrap over tasks; with fewer than ``FEWEST_TASKS`` its ends are NaN.
    """
    tables = [scores(part) for part in common(before, after)]
    (first, drawn_first), (second, drawn_second) = (deviations(table) for table in tables)
    low = high = float("nan")
    if len(tables[0]) >= FEWEST_TASKS:
        low, high = (float(end) for end in np.quantile(drawn_second - drawn_first, [0.025, 0.975]))
    return first, second, Interval(second - first, low, high, len(tables[0]))


def against(tuned: pd.DataFrame, baseline: str) -> tuple[list[str], list[str]]:
    """The PEFT methods whose mean of groups is clearly above, and clearly below, a baseline: intervals do not meet."""
    table = by_group(tuned)
    table = table[table["group"] == MEAN].set_index("method")
    names, base = peft(table.index), table.loc[baseline]
    above = [m for m in names if table.loc[m, "low"] > base["high"]]
    return above, [m for m in names if table.loc[m, "high"] < base["low"]]


def methods_and_seeds(tuned: pd.DataFrame) -> tuple[str, variance.Components]:
    """Do the methods of these runs differ less than seeds of one? Judged by the interval of the methods' part."""
    found = variance.components(tuned)
    return side(found.method_low, found.method_high, found.seed, below=True), found


def verdicts(table: pd.DataFrame, low_drop: str = "drop_path_0", high_drop: str = "drop_path_0.1") -> pd.DataFrame:
    """Columns part, verdict, evidence, from a study's table of records; parts whose runs are absent are left out."""
    tuned = runs(table, "tuned")
    names = peft(sorted(set(tuned["method"])))
    variants = set(table.loc[table["stage"] == "final", "variant"])
    rows = _similarity(tuned, names)
    for baseline in ("linear", "full"):
        if baseline in set(tuned["method"]):
            above, below = against(tuned, baseline)
            otherwise = CONTRADICTED if below else UNDECIDED
            verdict = SUPPORTED if len(above) == len(names) else otherwise
            evidence = f"{len(above)} of {len(names)} clearly above, {len(below)} clearly below"
            rows.append((f"every PEFT method beats {baseline}", verdict, evidence))
    default = table[(table["variant"] == "default") & table["method"].isin(names)]
    if default["method"].nunique() > 1:
        before, after, change = spread_change(runs(default, "default"), tuned)
        evidence = f"spread {before:.2f} untuned, {after:.2f} tuned, points; {change.n} tasks"
        rows.append(("tuning brings methods together", side(change.low, change.high, below=True), evidence))
    if {low_drop, high_drop} <= variants:
        d = tuning.mean_difference(tuning.paired(table, high_drop, low_drop))
        evidence = f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}] points"
        rows.append(("drop path helps when data are few", side(d.low, d.high), evidence))
    return pd.DataFrame(rows, columns=["part", "verdict", "evidence"])


def _similarity(tuned: pd.DataFrame, names: list[str]) -> list[tuple[str, str, str]]:
    """The parts about differences between PEFT methods: against seeds, and as an order of ranks."""
    rows = []
    counted = published.counted(names)
    sets = {"all PEFT methods": names}
    if counted != names:
        sets["those the study counts"] = counted
    for text, chosen in sets.items():
        if len(chosen) > 1 and tuned["task"].nunique() > 1:
            verdict, found = methods_and_seeds(tuned[tuned["method"].isin(chosen)])
            ends = f"[{found.method_low:.2f}, {found.method_high:.2f}]"
            evidence = f"methods {found.method:.2f} {ends}, seeds {found.seed:.2f} points"
            rows.append((f"{text} differ less than seeds", verdict, evidence))
    matrix = scores(tuned[tuned["method"].isin(names)])
    if matrix.shape[0] > 1 and matrix.shape[1] > 2:
        test, (apart, pairs) = ranks.friedman(matrix), ranks.separated(matrix)
        evidence = f"Friedman p = {test.p:.2g}; {apart} of {pairs} pairs apart"
        rows.append(("no order of PEFT methods over tasks", CONTRADICTED if test.p < 0.05 else UNDECIDED, evidence))
    return rows
