"""The study's first finding, judged part by part: similar accuracy when tuned, and better than both baselines.

Each part is "supported", "contradicted" or "undecided" by a rule that was fixed before the numbers were seen. The rules
compare intervals, so that little data gives "undecided" and not a side.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from petl_core.analysis import published, ranks, tuning, variance
from petl_core.analysis.accuracy import MEAN, Interval, by_group, scores
from petl_core.analysis.select import common, peft, runs

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
FEWEST_TASKS = 5  # for a bootstrap over tasks


def spread_change(before: pd.DataFrame, after: pd.DataFrame, draws: int = 2000) -> tuple[float, float, Interval]:
    """The standard deviation between methods (of means over tasks) of two sets of runs on the same cells, and its change.

    The interval of the change is a bootstrap over tasks; with fewer than ``FEWEST_TASKS`` its ends are NaN.
    """
    before, after = common(before, after)
    tables = [scores(before).to_numpy(), scores(after).to_numpy()]  # (tasks, methods) each
    sds = [float(table.mean(axis=0).std(ddof=1)) for table in tables]
    low = high = float("nan")
    n = len(tables[0])
    if n >= FEWEST_TASKS:
        picks = np.random.default_rng(0).integers(0, n, (draws, n))
        drawn = [table[picks].mean(axis=1).std(axis=1, ddof=1) for table in tables]
        low, high = (float(q) for q in np.quantile(drawn[1] - drawn[0], [0.025, 0.975]))
    return sds[0], sds[1], Interval(sds[1] - sds[0], low, high, n)


def against(tuned: pd.DataFrame, baseline: str) -> tuple[list[str], list[str]]:
    """The PEFT methods whose mean of groups is clearly above, and clearly below, a baseline: intervals do not meet."""
    table = by_group(tuned).query("group == @MEAN").set_index("method")
    names, base = peft(table.index), table.loc[baseline]
    above = [m for m in names if table.loc[m, "low"] > base["high"]]
    return above, [m for m in names if table.loc[m, "high"] < base["low"]]


def methods_and_seeds(tuned: pd.DataFrame) -> tuple[str, variance.Components]:
    """Do the methods of these runs differ less than seeds of one method? Judged by the interval of the methods' part."""
    found = variance.components(tuned)
    if found.method_low > found.seed:
        return CONTRADICTED, found
    return (SUPPORTED if found.method_high < found.seed else UNDECIDED), found


def judge(table: pd.DataFrame, low_drop: str = "drop_path_0", high_drop: str = "drop_path_0.1") -> pd.DataFrame:
    """Columns part, verdict, evidence, from the table of a study's records; parts whose runs are absent are left out."""
    tuned = runs(table, "tuned")
    names = peft(sorted(set(tuned["method"])))
    rows: list[tuple[str, str, str]] = []
    sets = {"all PEFT methods": names, "those that the study counts": published.counted(names)}
    for text, chosen in sets.items():
        if len(chosen) < 2 or (text != "all PEFT methods" and set(chosen) == set(names)):
            continue
        verdict, found = methods_and_seeds(tuned[tuned["method"].isin(chosen)])
        evidence = f"methods {found.method:.2f} [{found.method_low:.2f}, {found.method_high:.2f}], seeds {found.seed:.2f} points"
        rows.append((f"{text} differ less than seeds", verdict, evidence))
    matrix = scores(tuned[tuned["method"].isin(names)])
    if matrix.shape[0] > 1 and matrix.shape[1] > 2:
        test, (apart, pairs) = ranks.friedman(matrix), ranks.separated(matrix)
        verdict = CONTRADICTED if test.p < 0.05 else UNDECIDED
        rows.append(
            (
                "no order of PEFT methods over tasks",
                verdict,
                f"Friedman p = {test.p:.2g}; {apart} of {pairs} pairs apart",
            )
        )
    for baseline in ("linear", "full"):
        if baseline in set(tuned["method"]):
            above, below = against(tuned, baseline)
            verdict = SUPPORTED if len(above) == len(names) else CONTRADICTED if below else UNDECIDED
            evidence = f"{len(above)} of {len(names)} clearly above, {len(below)} clearly below"
            rows.append((f"every PEFT method beats {baseline}", verdict, evidence))
    variants = set(variants_of(table))
    if "default" in variants:
        chosen = [frame[frame["method"].isin(names)] for frame in (runs(table, "default"), tuned)]
        before, after, change = spread_change(*chosen)
        verdict = _sign(-change.high, -change.low)
        evidence = f"spread {before:.2f} untuned, {after:.2f} tuned, points; {change.n} tasks"
        rows.append(("tuning brings methods together", verdict, evidence))
    if {low_drop, high_drop} <= variants:
        d = tuning.mean_difference(tuning.paired(table, high_drop, low_drop))
        rows.append(
            (
                "drop path helps when data are few",
                _sign(d.low, d.high),
                f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}] points",
            )
        )
    return pd.DataFrame(rows, columns=["part", "verdict", "evidence"])


def variants_of(table: pd.DataFrame) -> list[str]:
    """The variants that have final runs in the table."""
    return sorted(set(table.loc[table["stage"] == "final", "variant"]))


def _sign(low: float, high: float) -> str:
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED
