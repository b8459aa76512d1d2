"""Rank tests, components of variance, tuning and the first finding, on synthetic tables with a known answer."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_runs import synthetic
from scipy import stats

from petl_core import methods as registry
from petl_core.study import plan as study
from petl_core.study.profiles import profile
from petl_core.study.records import COLUMNS
from petl_core.utils import UserError
from petl_guide import accuracy
from petl_guide.low_shot import ranks, similar, tuning, variance

# ranks


def test_ranks_share_ties() -> None:
    table = pd.DataFrame([[90, 80, 80, 10], [1, 2, 3, 4]], columns=list("wxyz"))
    assert ranks.ranks(table).to_numpy().tolist() == [[1, 2.5, 2.5, 4], [4, 3, 2, 1]]
    assert ranks.average_ranks(table).to_dict() == {"y": 2.25, "w": 2.5, "x": 2.75, "z": 2.5}


def test_friedman_in_full_agreement_and_in_none() -> None:
    agreed = pd.DataFrame([[3.0, 2.0, 1.0]] * 5, columns=list("abc"))
    found = ranks.friedman(agreed)
    assert (found.chi2, found.df, found.w) == pytest.approx((10.0, 2, 1.0))  # n (k - 1)
    assert found.p == pytest.approx(math.exp(-5))  # chi² with 2 degrees of freedom
    turning = pd.DataFrame([[1, 2, 3], [2, 3, 1], [3, 1, 2]], columns=list("abc"), dtype=float)
    assert ranks.friedman(turning).w == pytest.approx(0)


def test_critical_difference_of_the_textbook() -> None:
    assert ranks.critical_difference(4, 14) == pytest.approx(
        2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3
    )  # Demsar's q
    assert ranks.critical_difference(14, 19) == pytest.approx(4.55, abs=5e-3)
    for wrong in ((1, 10), (5, 1)):
        with pytest.raises(UserError, match="2 methods and 2 tasks"):
            ranks.critical_difference(*wrong)


def test_pairs_are_told_apart_by_the_critical_difference() -> None:
    random = np.random.default_rng(5)
    table = pd.DataFrame(random.normal(np.arange(6) * 0.6, 1, (15, 6)), columns=list("abcdef"))
    means, cd = ranks.average_ranks(table), ranks.critical_difference(6, 15)
    far = [abs(one - two) >= cd for one, two in itertools.combinations(means, 2)]
    assert 0 < sum(far) < len(far)
    assert ranks.separated(table) == (sum(far), len(far))


def test_cliques_are_the_largest_sets() -> None:
    means = pd.Series({"a": 1.0, "b": 1.5, "c": 2.4, "d": 5.0, "e": 5.5})
    assert ranks.cliques(means, 1.0) == [["a", "b"], ["b", "c"], ["d", "e"]]
    assert ranks.cliques(means, 9) == [list("abcde")]
    assert ranks.cliques(means, 0.1) == []


def test_replication() -> None:
    level = {"linear": 1.0, "full": 2.0, "lora": 3.0, "bitfit": 4.0}
    assert ranks.replication(synthetic(lambda t, m, s: level[m])) == pytest.approx(1)
    turned = synthetic(lambda t, m, s: level[m] if s else -level[m], seeds=(0, 1))
    assert ranks.replication(turned) == pytest.approx(-1)


def test_ranks_need_every_method_on_every_task() -> None:
    holed = pd.DataFrame([[1.0, math.nan], [1.0, 2.0]], columns=["p", "q"], index=["t", "u"])
    with pytest.raises(UserError, match="accuracy of q on t is missing"):
        ranks.ranks(holed)
    with pytest.raises(UserError, match="needs 2 tasks and 3 methods"):
        ranks.friedman(holed.fillna(1.0))


# variance


def test_one_way_by_hand() -> None:
    level = {"linear": 10.0, "full": 20.0, "lora": 30.0, "bitfit": 40.0}
    found = variance.one_way(synthetic(lambda t, m, s: level[m] + s, tasks=("a",)))
    msb = 3 * np.var([10, 20, 30, 40], ddof=1)
    assert found.within == pytest.approx(1)
    assert found.between == pytest.approx(math.sqrt((msb - 1) / 3))
    assert found.f == pytest.approx(msb)
    y = [[v, v + 1, v + 2] for v in (10, 20, 30, 40)]
    assert found.p == pytest.approx(stats.f_oneway(*y).pvalue)
    assert found.share_low < found.share < found.share_high <= 1


def test_one_way_without_a_difference() -> None:
    found = variance.one_way(synthetic(lambda t, m, s: 50.0 + s, tasks=("a",)))
    assert (found.between, found.share) == (0, 0)
    assert math.isnan(variance.one_way(synthetic(tasks=("a",))).p)  # all equal: nothing to test
    with pytest.raises(UserError, match="runs of one task; it got 4"):
        variance.one_way(synthetic())
    with pytest.raises(UserError, match="2 methods and 2 seeds"):
        variance.one_way(synthetic(tasks=("a",), seeds=(0,)))


def test_the_interval_of_the_share_covers_the_truth() -> None:
    random, hits = np.random.default_rng(7), 0
    names = [f"m{i}" for i in range(8)]
    for _ in range(60):
        of = {name: random.normal(0, 1) for name in names}
        runs = synthetic(lambda t, m, s, of=of: 60 + of[m] + random.normal(0, 1), tasks=("a",), methods=names)
        found = variance.one_way(runs)
        hits += found.share_low <= 0.5 <= found.share_high
    assert 52 <= hits <= 60


def test_components_find_what_was_put_in() -> None:
    random = np.random.default_rng(11)
    names, tasks = [f"m{i}" for i in range(60)], ("a", "b", "c", "d")
    of = {name: random.normal(0, 3) for name in names}
    likes = {(t, name): random.normal(0, 2) for t in tasks for name in names}
    runs = synthetic(lambda t, m, s: 60 + of[m] + likes[t, m] + random.normal(0, 1), methods=names)
    found = variance.components(runs)
    assert (found.method, found.interaction, found.seed) == pytest.approx((3, 2, 1), rel=0.2)
    assert found.p_method < 1e-3
    assert found.p_interaction < 1e-3


def test_components_by_hand() -> None:
    runs = synthetic(lambda t, m, s: 60 + 10 * (m == "lora") + s, tasks=("a", "b"), methods=("lora", "full"))
    found = variance.components(runs)
    assert (found.interaction, found.seed) == pytest.approx((0, 1))
    assert found.method_low <= found.method <= found.method_high
    assert found.method == pytest.approx(math.sqrt((6 * 50 - 0) / 6))  # MSM = 2 · 3 · var(60, 70), MSI = 0
    table = variance.group_components(synthetic(lambda t, m, s: 60.0 + s))
    assert table["group"].tolist() == ["natural", "all tasks"]  # the other groups have one task
    assert variance.by_task(synthetic(lambda t, m, s: 60.0 + s))["task"].tolist() == ["a", "b", "c", "d"]


def test_detectable_has_the_promised_power() -> None:
    gap = variance.detectable(2.0, seeds=3)
    random = np.random.default_rng(0)
    a, b = random.normal(0, 2, (4000, 3)), random.normal(gap, 2, (4000, 3))
    assert np.mean(stats.ttest_ind(a, b, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)
    assert variance.detectable(2.0, seeds=10) < gap
    with pytest.raises(UserError, match="2 seeds or more"):
        variance.detectable(1.0, seeds=1)


# tuning


@pytest.fixture(scope="module")
def small():
    return replace(profile("smoke"), tasks=("a", "b"), methods=("lora", "bitfit"), trials=3)


def trial_table(plan, value=lambda task, method, number: float(number)) -> pd.DataFrame:
    rows = []
    for task, method in itertools.product(plan.tasks, plan.methods):
        for number, point in enumerate(study.trials_of(plan, method), start=1):
            row = synthetic(tasks=(task,), methods=(method,), seeds=(0,), stage="trial", variant="trial").iloc[0]
            hyper = json.dumps(registry.get(method, **point.hyper).hyper(), sort_keys=True)
            rows.append(
                row.to_dict()
                | {
                    "hyper": hyper,
                    "lr": point.lr,
                    "drop_path": point.drop_path,
                    "accuracy": value(task, method, number),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def test_trials_come_in_the_order_of_trying(small) -> None:
    shuffled = trial_table(small).sample(frac=1, random_state=0)
    found = tuning.trials(shuffled, small)
    assert (found["trial"] == found["accuracy"]).all()
    assert len(found) == 2 * 2 * 3
    with pytest.raises(UserError, match="trial 2 of lora on a has no record"):
        tuning.trials(trial_table(small).drop(index=1), small)
    with pytest.raises(UserError, match="no tuning runs"):
        tuning.trials(synthetic(), small)


def test_best_of(small) -> None:
    values = {1: 5.0, 2: 3.0, 3: 9.0}
    table = tuning.best_of(tuning.trials(trial_table(small, lambda t, m, n: values[n] + (t == "b")), small))
    assert table.loc["lora"].tolist() == [5.5, 5.5, 9.5]


def test_noise_maximum() -> None:
    assert tuning.noise_maximum(70, 200, 1) == pytest.approx(70)  # one choice is no choice
    # two coins: the mean of the larger of two flips of a fair coin is 3/4
    assert tuning.noise_maximum(50, 1, 2) == pytest.approx(75)
    drawn = tuning.select_on_noise(70, 200, 20, repeats=4000)
    assert drawn.mean() == pytest.approx(tuning.noise_maximum(70, 200, 20), abs=0.1)
    with pytest.raises(UserError, match="0 to 100"):
        tuning.noise_maximum(101, 10, 2)


def test_best_on_test() -> None:
    table = synthetic(lambda t, m, s: 60.0 + s, variant="best_on_test", best_accuracy=63.0)
    assert sorted(set(tuning.best_on_test(table)["inflation"])) == [1, 2, 3]
    with pytest.raises(UserError, match="was not tracked"):
        tuning.best_on_test(synthetic(variant="best_on_test"))


def test_paired_differences() -> None:
    shift = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 6.0}
    after = synthetic(lambda t, m, s: 60 + shift[t] + 7 * s, methods=("lora", "bitfit", "linear"))
    before = synthetic(lambda t, m, s: 60.0 + 7 * s, methods=("lora", "bitfit"), variant="default", seeds=(0, 1))
    found = tuning.paired(pd.concat([after, before]), "tuned", "default")
    assert (found["difference"] == found["task"].map(shift)).all()  # the seed's own part cancels in a pair
    assert len(found) == 4 * 2 * 2
    assert tuning.sample(found) == "tasks"
    expected = accuracy.interval(list(shift.values()))
    assert tuning.mean_difference(found) == expected
    row = tuning.by_method(found).set_index("method").loc["lora"]
    assert row.tolist() == pytest.approx([expected.mean, expected.low, expected.high, 4])


def test_paired_differences_on_one_task_are_over_seeds() -> None:
    after = synthetic(lambda t, m, s: 60 + s**2, tasks=("a",), methods=("lora",))
    table = pd.concat([after, synthetic(lambda t, m, s: 60.0, tasks=("a",), methods=("lora",), variant="default")])
    found = tuning.paired(table, "tuned", "default")
    assert tuning.sample(found) == "seeds"
    assert tuning.mean_difference(found) == accuracy.interval([0.0, 1.0, 4.0])


def test_paired_refuses() -> None:
    table = pd.concat([synthetic(methods=("lora",)), synthetic(methods=("full",), variant="default")])
    with pytest.raises(UserError, match="no task, method and seed in common"):
        tuning.paired(table, "tuned", "default")


def test_ingredients() -> None:
    gains = {"tuned": 0.0, "x": 1.0, "y": 5.0}
    parts = [synthetic(lambda t, m, s, g=g: 60 + g, variant=v, methods=("bitfit",)) for v, g in gains.items()]
    differences, summary = tuning.ingredients(pd.concat(parts), "tuned", {"x": "one thing", "y": "another"})
    assert summary.set_index("change")["difference"].to_dict() == {"one thing": 1, "another": 5}
    assert set(differences["change"]) == {"one thing", "another"}


def test_after_k_trials() -> None:
    parts = [synthetic(lambda t, m, s, k=k: 60.0 + k, variant=f"trials_{k}") for k in (1, 2)]
    assert tuning.after_k_trials(pd.concat(parts), 2).loc["full"].tolist() == [61, 62]
    parts[1] = parts[1][parts[1]["method"] != "full"]
    with pytest.raises(UserError, match="cover different methods"):
        tuning.after_k_trials(pd.concat(parts), 2)


def test_the_interval_of_the_methods_part_covers_the_truth() -> None:
    random, hits, names = np.random.default_rng(13), 0, [f"m{i}" for i in range(10)]
    for _ in range(60):
        of = {name: random.normal(0, 2) for name in names}
        likes = {(t, name): random.normal(0, 1) for t in "abcd" for name in names}
        runs = synthetic(lambda t, m, s, of=of, likes=likes: 60 + of[m] + likes[t, m] + random.normal(), methods=names)
        found = variance.components(runs)
        hits += found.method_low <= 2 <= found.method_high
    assert 52 <= hits <= 60


# similar


PEFT = ("lora", "bitfit", "ssf", "adaptformer", "vpt_deep", "fact_tk")


def study_table(of_method, noise: float = 1.0, seed: int = 0, **columns) -> pd.DataFrame:
    """Tuned runs of six PEFT methods and both baselines on six tasks."""
    random = np.random.default_rng(seed)

    def value(task: str, method: str, seed: int) -> float:
        return 60 + of_method(task, method) + noise * random.standard_normal()

    return synthetic(value, tasks=tuple("abcdef"), methods=("linear", "full", *PEFT), **columns)


def test_methods_clearly_above_a_baseline_are_named() -> None:
    above, below = similar.against(study_table(lambda t, m: -20 * (m == "full")), "full")
    assert set(above) == set(PEFT) and below == []
    above, below = similar.against(study_table(lambda t, m: 5 * PEFT.index(m) if m in PEFT else 12, noise=0.5), "full")
    assert above == ["adaptformer", "fact_tk", "vpt_deep"] and set(below) == {"lora", "bitfit", "ssf"}


def test_tuning_brings_methods_together_where_they_were_apart() -> None:
    def untuned(task: str, method: str) -> float:
        return 4.0 * PEFT.index(method) if method in PEFT else 0.0

    apart, level = (study_table(truth, noise=0.2) for truth in (untuned, lambda t, m: 0))
    before, after, change = similar.spread_change(apart, level)
    assert before > 5 and after < 1 and change.high < -4
    few = level.query("task in ('a', 'c', 'd')")
    before, after, change = similar.spread_change(few, few)
    assert (before, change.mean) == (after, 0) and math.isnan(change.low)


def test_common_means_are_of_what_all_variants_have() -> None:
    value = {"lora": 60.0, "full": 50.0, "linear": 40.0, "bitfit": 30.0}
    short = synthetic(lambda t, m, s: value[m] + (100 if t == "d" else 0))
    longer = synthetic(lambda t, m, s: value[m] + 2, tasks=("a", "b"), methods=("full", "lora"), variant="longer")
    found = tuning.common_means(pd.concat([short, longer]), {"tuned": "short", "longer": "long"})
    assert found.to_dict() == {"short": {"lora": 60, "full": 50}, "long": {"lora": 62, "full": 52}}
    assert list(found.index) == ["lora", "full"]
    other = synthetic(tasks=("e",), variant="longer")
    with pytest.raises(UserError, match="no task in common"):
        tuning.common_means(pd.concat([short, other]), {"tuned": "short", "longer": "long"})
