"""The choice of runs and the means over them, on synthetic tables with a known answer; and every refusal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_runs import noisy, synthetic
from scipy import stats

from petl_core import methods as registry
from petl_core.utils import UserError
from petl_guide import accuracy
from petl_guide import runs as select

# select


def test_runs_chooses_the_variant_and_checks_the_grid() -> None:
    table = pd.concat([synthetic(), synthetic(variant="default"), synthetic(variant="trial", stage="trial")])
    chosen = select.runs(table, methods=["lora", "full"], tasks=["a", "c"])
    assert len(chosen) == 2 * 2 * 3
    assert set(chosen["variant"]) == {"tuned"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns=["seed", "classes"]), "columns classes, seed"),
        (lambda t: t[t.variant != "tuned"], "no final runs of variant 'tuned'"),
        (lambda t: t.drop(index=t.index[5]), "lacks 1 of 48 runs: a, full, seed 2"),
        (lambda t: pd.concat([t, t.iloc[[7]]]), "several runs of the same cell, for example lora on a, seed 1"),
        (lambda t: t.assign(backbone=["mini", "other"] * 24), "mixes the backbones mini, other"),
        (lambda t: t.assign(accuracy=[math.nan, *t.accuracy[1:]]), "without accuracy that is not marked as diverged"),
    ],
)
def test_runs_refuses_and_says_why(spoil, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select.runs(spoil(synthetic()))
    with pytest.raises(UserError, match="no runs with method ssf"):
        select.runs(synthetic(), methods=["ssf"])


def test_a_mixture_of_stages_is_refused() -> None:
    with pytest.raises(UserError, match="mixes final and trial"):
        select.grid(pd.concat([synthetic(seeds=[0]), synthetic(seeds=[1], stage="trial")]))


def test_a_diverged_run_counts_at_chance() -> None:
    table = synthetic()
    table.loc[0, ["accuracy", "diverged"]] = [math.nan, True]
    chosen = select.runs(table)
    assert chosen.attrs["diverged"] == 1
    assert chosen.loc[chosen["accuracy"] != 50, "accuracy"].tolist() == [25.0]  # four classes


def test_peft_are_all_but_the_baselines() -> None:
    assert select.peft(["linear", "lora", "full", "bitfit"]) == ["lora", "bitfit"]
    assert len(select.peft(registry.names())) == len(registry.names()) - 2


# accuracy


def test_t_interval_by_hand() -> None:
    found = accuracy.interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2) s / sqrt(n), s = 1
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert math.isnan(accuracy.interval([5.0]).low)


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0]])
def test_interval_refuses(bad: list[float]) -> None:
    with pytest.raises(UserError, match="finite numbers"):
        accuracy.interval(bad)
    with pytest.raises(UserError, match="between 0 and 1"):
        accuracy.interval([1.0, 2.0], level=95)


def test_by_task() -> None:
    table = accuracy.by_task(synthetic(lambda t, m, s: 60.0 + s)).set_index(["task", "method"])
    row = table.loc[("a", "lora")]
    assert (row["mean"], row["sd"], row["n"]) == (61.0, 1.0, 3)
    assert row["high"] - row["mean"] == pytest.approx(4.302652729911275 / math.sqrt(3))


def test_by_group_counts_each_group_once() -> None:
    level = {"a": 10.0, "b": 20.0, "c": 40.0, "d": 70.0}
    table = accuracy.by_group(synthetic(lambda t, m, s: level[t])).set_index(["group", "method"])["mean"]
    assert table["natural", "lora"] == 15
    assert table[accuracy.MEAN, "lora"] == pytest.approx((15 + 40 + 70) / 3)


def test_by_group_of_one_task_is_the_t_interval_of_its_seeds() -> None:
    runs = noisy(tasks=("c",))
    mine = accuracy.by_group(runs).query("group == 'specialised'").set_index("method")
    for method, cell in runs.groupby("method"):
        found = accuracy.interval(cell["accuracy"].to_numpy())
        assert (mine.loc[method, "low"], mine.loc[method, "high"]) == pytest.approx((found.low, found.high))


def test_by_group_with_equal_variances_has_all_degrees_of_freedom() -> None:
    runs = synthetic(lambda t, m, s: 60.0 + (s - 1) * 2, tasks=("a", "b"))  # s² = 4 on both tasks
    row = accuracy.by_group(runs).query("group == 'natural' and method == 'lora'").iloc[0]
    assert row["high"] - row["mean"] == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(4 / 3 / 2))


def test_by_group_covers_the_truth_as_often_as_it_says() -> None:
    random, hits, total = np.random.default_rng(3), 0, 0
    for _ in range(4):
        runs = synthetic(lambda t, m, s: 60 + random.standard_normal(), methods=[f"m{i}" for i in range(25)])
        for row in accuracy.by_group(runs).query("group == @accuracy.MEAN").itertuples():
            hits, total = hits + (row.low <= 60 <= row.high), total + 1
    assert 0.9 <= hits / total <= 0.99  # 100 intervals of 95 %; Welch's are a little too wide for few seeds


def test_spread_by_hand() -> None:
    level = {"linear": 48.0, "full": 50.0, "lora": 52.0, "bitfit": 50.0}
    table = accuracy.spread(synthetic(lambda t, m, s: level[m])).set_index("group")
    sd = math.sqrt(8 / 3)
    assert table.loc["structured", ["mean", "sd", "range", "relative"]].tolist() == pytest.approx([50, sd, 4, 2 * sd])
    assert accuracy.order(synthetic(lambda t, m, s: level[m])) == ["lora", "bitfit", "full", "linear"]


def test_common_cells() -> None:
    one, two = select.common(synthetic(tasks=("a", "b")), synthetic(tasks=("b", "c"), methods=("lora", "full")))
    assert set(one["task"]) == {"b"}
    assert set(one["method"]) == {"lora", "full"} == set(two["method"])
    with pytest.raises(UserError, match="no task in common"):
        select.common(synthetic(tasks=("a",)), synthetic(tasks=("b",)))


def test_pareto_keeps_what_no_other_beats() -> None:
    assert accuracy.pareto([60, 70, 65, 70, 50], [1, 3, 2, 4, 1]) == [0, 2, 1]
    assert accuracy.pareto([60, 60], [1, 1]) == [0, 1]  # equal points both stay
    for bad in ([1, math.nan], [1, 2, 3]):
        with pytest.raises(UserError, match="Pareto"):
            accuracy.pareto([1, 2], bad)


def test_a_part_of_the_study_is_whole_or_named() -> None:
    table = pd.concat([synthetic(variant="x"), synthetic(variant="y"), synthetic(variant="x", stage="trial")])
    table["task"] = table["task"].replace("a", "a@100")
    mine = select.of_part(table, "part", ["x"])
    assert set(mine["variant"]) == {"x"} and set(mine["stage"]) == {"final"}
    assert set(zip(mine["spec_task"], mine["task"], mine["images"], strict=True)) >= {
        ("a@100", "a", 100),
        ("b", "b", 1000),
    }
    select.check_seeds(mine, ["task", "method"])
    with pytest.raises(UserError, match=r"task b, method lora: seeds \[0, 2\] instead of \[0, 1, 2\]"):
        select.check_seeds(mine[~mine["digest"].eq(mine["digest"].iloc[19])], ["task", "method"])
    with pytest.raises(UserError, match=r"'many_shot'.*--part many_shot"):
        select.of_part(table, "many_shot")


def test_the_stratified_bootstrap_knows_nothing_of_differences_between_tasks():
    constant = accuracy.stratified_bootstrap([[10.0] * 3, [90.0] * 3])
    assert (constant.mean, constant.low, constant.high, constant.n) == (50, 50, 50, 2)
    random = np.random.default_rng(1)
    values = [random.normal(level, 2.0, 30) for level in (10, 50, 90)]
    found = accuracy.stratified_bootstrap(values)
    error = np.sqrt(sum(v.var() / 30 for v in values)) / 3  # of the mean of three independent means
    assert found.mean == pytest.approx(np.mean([v.mean() for v in values]))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found.high - found.low < 0.1 * (np.ptp(np.concatenate(values)))
    assert str(accuracy.stratified_bootstrap(values)) == str(found)  # the same draws each time
    for bad in ([], [[1.0], []], [[1.0, np.nan]]):
        with pytest.raises(UserError, match="finite numbers for each stratum"):
            accuracy.stratified_bootstrap(bad)
