"""The claims on the published numbers: as the rules quote them, and recomputed from the files, by the rules alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from petl_core.utils import PUBLISHED
from petl_guide.claims import published as checks
from petl_guide.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    HETEROGENEOUS,
    SUPPORTED,
    UNDECIDED,
    ByTask,
    Evidence,
    Verdict,
    judged,
)

BASELINES = ["full", "linear"]


def frame(name: str) -> pd.DataFrame:
    return pd.read_csv(PUBLISHED / name)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    final = frame("vtab1k_final.csv")
    return final[final["in_vtab19"] & final["reported"]].pivot(index="task", columns="method", values="accuracy")


@pytest.fixture(scope="module")
def run_noise() -> float:
    runs = frame("vtab1k_final.csv").query("in_vtab19").sort_values(["task", "method", "run"])
    cells = runs.groupby(["task", "method"])["accuracy"]
    moved = (cells.last() - cells.first())[cells.size() > 1]
    assert len(moved) == 266
    return math.sqrt((moved**2).sum() / 266 / 2)


@pytest.mark.parametrize(
    ("check", "word", "effect", "low", "high"),
    [
        ("similar_means", SUPPORTED, 1.25, 0.68, 1.86),
        ("similar_tasks", UNDECIDED, 1.98, 0.83, 3.04),
        ("bitfit", EQUIVALENT, -0.43, -1.55, 0.68),
        ("above_linear", SUPPORTED, 17.4, 8.3, 26.5),
        ("above_full", UNDECIDED, 14.8, 8.6, 21.0),
        ("size_and_distance", SUPPORTED, 3.9, 1.4, 6.4),
        ("robustness", UNDECIDED, 13.4, 12.8, 13.9),
        ("interpolation", SUPPORTED, 1.85, 1.6, 2.1),
        ("balance", UNDECIDED, -0.13, None, None),
    ],
)
def test_what_the_rules_quote(check: str, word: str, effect: float, low: float | None, high: float | None) -> None:
    verdict = judged(getattr(checks, check)())
    assert verdict.verdict == word
    digits = 0.0501 if check in ("above_linear", "above_full", "size_and_distance", "robustness") else 0.0051
    assert verdict.effect == pytest.approx(effect, abs=digits)
    if low is not None:
        assert (verdict.low, verdict.high) == pytest.approx((low, high), abs=0.06 if digits > 0.01 else 0.011)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        ("similar_tasks", 1),  # the best of 4 trials gives another word
        ("above_full", 100),  # all rates are an end, and the handicap leaves no side
        ("overlap", -5.1),
        ("robustness", 1),
        ("balance", 1),
    ],
)
def test_a_control_that_fails_says_by_what_number(check: str, value: float) -> None:
    found = getattr(checks, check)()
    failed = [control for control in getattr(found, "curve", found).controls if not control.passes]
    assert failed[0].value == pytest.approx(value, abs=0.051)
    assert failed[0].name in judged(found).reason


def test_bitfit_is_judged_where_trials_are_equal_and_the_unequal_ones_are_told() -> None:
    assert "-1.07 [-2.04, -0.09]" in judged(checks.bitfit()).told


def test_handicaps_are_what_the_end_of_the_grid_gave() -> None:
    for found, mean in ((checks.above_linear(), 3.4), (checks.above_full(), 39.1)):
        assert np.mean(list(found.handicaps.values())) == pytest.approx(mean, abs=0.051)
    assert checks.at_the_ends("full")[0] == 100


def test_drop_path_has_two_signs_on_two_tasks() -> None:
    found = checks.drop_path()
    ends = {name: part.effect for name, part in found.parts.items()}
    assert [round(ends["cifar100 with 500 images"].mean, 1), round(ends["resisc45 with 225 images"].mean, 1)] == [
        4,
        -3.5,
    ]
    parts = {name: judged(part).verdict for name, part in found.parts.items()}
    assert set(parts.values()) == {SUPPORTED, CONTRADICTED} and judged(found).verdict == HETEROGENEOUS
    alone = ByTask({"one": next(iter(found.parts.values()))}, fewest=found.fewest)
    assert judged(alone).verdict == UNDECIDED and "too few" in judged(alone).reason


def test_balance_has_two_effects_with_the_errors_of_their_images() -> None:
    found = checks.balance()
    for part, mean, error in ((found.curve, -0.13, 0.29), (found.top, 0.91, 0.27)):
        assert part.effect.mean == pytest.approx(mean, abs=0.0051)
        assert (part.effect.high - part.effect.mean) / 1.96 == pytest.approx(error, abs=0.0051)


# ---- recomputed from the files, by the rules and not by the code


def best_of_four(values: pd.Series) -> float:
    """By counting: in how many of all sets of four is the i-th smallest the largest?"""
    ordered, n = sorted(values), len(values)
    return sum(value * math.comb(i, 3) for i, value in enumerate(ordered)) / math.comb(n, 4)


def rho_squared(scores: pd.DataFrame) -> float:
    long = scores.stack()
    grand, methods, tasks = long.mean(), scores.mean(), scores.mean(axis=1)
    rest = scores.sub(methods, axis=1).sub(tasks, axis=0) + grand
    n, m = scores.shape
    return 2 * max(0.0, methods.var() - (rest**2).sum().sum() / ((n - 1) * (m - 1)) / n)


def same(verdict: Verdict, *numbers: float) -> None:
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(numbers, abs=0.005)


@pytest.mark.parametrize("which", ["test", "best of four"])
def test_similar_means_recomputed(table: pd.DataFrame, run_noise: float, which: str) -> None:
    if which != "test":
        cells = frame("vtab1k_tuning.csv.gz").groupby(["task", "method"])["val_accuracy"]
        table = cells.apply(best_of_four).unstack()
    scores, n = table.drop(columns=[*BASELINES, "vpt_shallow"]), len(table)
    assert scores.shape == (19, 13)
    whole = math.log(1 + rho_squared(scores))
    pseudo = pd.Series([n * whole - (n - 1) * math.log(1 + rho_squared(scores.drop(index=t))) for t in scores.index])
    half = stats.t.ppf(0.95, n - 1) * pseudo.sem()
    numbers = [math.sqrt(math.exp(value) - 1) for value in (whole, whole - half, whole + half)]
    found = checks.similar_means()
    if which == "test":
        same(judged(found), *numbers)
        assert found.controls[0].value == pytest.approx(math.sqrt(2 / 19) * run_noise, abs=0.005)
    else:
        assert f"{numbers[0]:+.2f} [{numbers[1]:+.2f}, {numbers[2]:+.2f}]" in found.told


def test_above_full_recomputed(table: pd.DataFrame, run_noise: float) -> None:
    gap = table.drop(columns=BASELINES).median(axis=1) - table["full"]
    trials = frame("vtab1k_tuning.csv.gz").query("method == 'full'")
    by_rate = trials.pivot_table(index="task", columns="lr", values="val_accuracy", aggfunc="max")
    low, high = by_rate.columns
    chosen = trials[trials["selected"]].set_index("task")["lr"]
    gained = (by_rate[low] - by_rate[high]).where(chosen == low, by_rate[high] - by_rate[low]).clip(lower=0)
    reach = stats.t.ppf(0.975, 18)
    found, less = checks.above_full(), gap - gained
    same(judged(found), gap.mean(), gap.mean() - reach * gap.sem(), gap.mean() + reach * gap.sem())
    assert found.less.low == pytest.approx(less.mean() - reach * less.sem(), abs=0.005)
    assert found.variances["dtd"] == pytest.approx(2 * run_noise**2)
    assert gap.mean() - reach * gap.sem() > 0 > found.less.low  # support goes with the handicap: undecided, a control


def test_many_images_recomputed() -> None:
    runs, trials = frame("manyshot_final.csv").query("reported"), frame("manyshot_tuning.csv.gz")
    images = {"cifar100": (50_000, 10_000), "resisc45": (25_200, 6_300), "clevr_distance": (70_000, 15_000)}
    parts, counted = checks.many_images().parts, []
    for task, (train, test) in images.items():
        mine = runs[(runs["task"] == task) & (runs["train_images"] == train)].set_index("method")
        full, linear = mine.loc["full"], mine.loc["linear", "accuracy"]
        small = mine[mine["params"] <= full["params"] / 20].drop(index="linear").reset_index()
        best = small[small["val_accuracy"] == small["val_accuracy"].max()].nsmallest(1, "params").iloc[0]["accuracy"]
        sizes = small.pivot(index="method", columns="size", values="accuracy").dropna(axis=1, how="all").to_numpy()
        again = 1.4826 * np.nanmedian(np.abs(np.diff(sizes, axis=1))) / math.sqrt(2)  # sizes double, so columns touch

        def error(one: float, other: float, test: int = test, again: float = again) -> float:
            shares = [value / 100 for value in (one, other)]
            return math.sqrt(sum(1e4 * p * (1 - p) / test for p in shares) + 2 * again**2)

        cell = trials[(trials["task"] == task) & (trials["train_images"] == train) & (trials["method"] == "full")]
        ends = cell.groupby("lr")["val_accuracy"].max()
        handicap = max(0, ends[full["lr"]] - ends.drop(full["lr"]).iloc[0])
        found, gap = parts[task], best - full["accuracy"]
        assert found.effect.mean == pytest.approx(gap, abs=0.005)
        lower = gap - handicap - 1.645 * error(best, full["accuracy"])
        assert found.less.low90 == pytest.approx(lower, abs=0.005)
        above = linear - full["accuracy"] + 1.96 * error(linear, full["accuracy"])
        assert found.controls[0].value == pytest.approx(above, abs=0.005) and found.controls[0].passes == (above < -1)
        if above < -1:
            counted.append(lower)
    assert sorted(counted) == pytest.approx([-1.50, -1.02], abs=0.005)
    assert judged(checks.many_images()).verdict == UNDECIDED and judged(checks.many_images()).n == len(counted)


def test_no_check_carries_a_word() -> None:
    words = {SUPPORTED, CONTRADICTED, EQUIVALENT, HETEROGENEOUS}
    for name in ("similar_means", "above_linear", "above_full", "size_and_distance", "robustness", "interpolation"):
        found = getattr(checks, name)()
        assert isinstance(found, Evidence) and not any(word in found.told for word in words)
