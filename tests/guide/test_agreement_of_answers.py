"""Agreement, overlap and ensembles on predictions with a known answer."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from petl_core.study.predictions import DIFFERENT, SAME, Predictions
from petl_core.utils import UserError
from petl_guide.mistakes import agreement, confidence, ensembles


def from_classes(classes: np.ndarray, labels: np.ndarray, runs: list[tuple[str, int]], count: int = 4) -> Predictions:
    """Predictions whose logits are one-hot: the classes are what matters."""
    table = pd.DataFrame(runs, columns=["method", "seed"]).assign(digest=[f"{i:016x}" for i in range(len(runs))])
    logits = np.eye(count, dtype=np.float32)[classes]
    return Predictions("made up", table, logits, labels, tuple(map(str, range(len(labels)))))


def noisy(right: float, runs: list[tuple[str, int]], n: int = 4000, count: int = 4, seed: int = 0) -> Predictions:
    """Runs that are right with this probability, independently; a wrong class is any of the others."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, count, n)
    wrong = (labels + random.integers(1, count, (len(runs), n))) % count
    return from_classes(np.where(random.random((len(runs), n)) < right, labels, wrong), labels, runs, count)


GRID = list(itertools.product(("lora", "ssf", "bitfit"), (0, 1, 2)))

# agreement


def test_agreement_counts_equal_predictions() -> None:
    classes = np.array([[0, 1, 2, 3], [0, 1, 2, 0], [3, 3, 3, 3]])
    assert agreement.agreement(classes).tolist() == [[100, 75, 25], [75, 100, 0], [25, 0, 100]]


def test_unrelated_mistakes_agree_as_expected() -> None:
    found = noisy(0.7, [("lora", 0), ("ssf", 0)], n=200_000)
    a, b = 100 * found.correct.mean(axis=1)
    assert agreement.agreement(found.classes)[0, 1] == pytest.approx(agreement.expected_agreement(a, b, 4), abs=0.3)
    assert agreement.expected_agreement(70, 70, 4) == pytest.approx(100 * (0.49 + 0.09 / 3))
    assert agreement.expected_agreement(100, 40, 7) == pytest.approx(40)


def test_kappa_is_cohens() -> None:
    found = noisy(0.6, [("lora", 0), ("ssf", 0), ("bitfit", 0)], n=500)
    ours = agreement.kappa(found.correct)
    for i, j in itertools.combinations(range(3), 2):
        assert ours[i, j] == pytest.approx(cohen_kappa_score(*found.correct[[i, j]]))
    assert np.diag(ours) == pytest.approx(1)
    perfect = agreement.kappa(np.ones((2, 5), dtype=bool))
    assert np.isnan(perfect).all()


def test_pairs_differ_in_the_method_or_in_the_seed_alone() -> None:
    table = agreement.pairs(noisy(0.7, GRID))
    assert table["kind"].value_counts().to_dict() == {SAME: 9, DIFFERENT: 9}
    assert (table.loc[table["kind"] == SAME, "one"] == table.loc[table["kind"] == SAME, "two"]).all()
    assert (
        table.loc[table["kind"] == DIFFERENT, "seed_one"] == table.loc[table["kind"] == DIFFERENT, "seed_two"]
    ).all()
    assert (table["disagreement"] - table["expected"]).abs().max() < 4
    with pytest.raises(UserError, match="no two runs on made up differ in the method or the seed alone"):
        agreement.pairs(noisy(0.7, [("lora", 0), ("ssf", 1)]))


def test_excess_finds_nothing_where_the_method_does_not_matter_and_a_method_that_does() -> None:
    p = [agreement.excess(noisy(0.7, GRID, n=400, seed=s), draws=200).p for s in range(40)]
    assert 0.3 < np.mean(p) < 0.75 and min(p) < 0.5 < max(p)
    found = noisy(0.7, GRID)
    classes = found.classes.copy()
    classes[:3] = classes[0]  # the seeds of the first method agree with each other on all images
    odd = agreement.excess(from_classes(classes, found.labels, GRID))
    plain = agreement.excess(found)
    assert odd.p == pytest.approx(1 / 28, abs=0.015)  # of the ways to choose two companions for a run, one is right
    assert plain.p > 0.1
    apart = 100 - agreement.agreement(classes)
    within = np.mean([apart[i, j] for i, j in itertools.combinations(range(9), 2) if i // 3 == j // 3])
    assert odd.within == pytest.approx(within) and odd.difference > 8 > abs(plain.difference)
    with pytest.raises(UserError, match=r"2 or more methods with equally many seeds.*lora 2, ssf 1"):
        agreement.excess(noisy(0.7, [("lora", 0), ("lora", 1), ("ssf", 0)]))


# confidence


def test_the_confident_sets_by_hand() -> None:
    logits = np.array([[[4.0, 0], [3, 0], [0, 2], [0, 1], [0.5, 0]]], dtype=np.float32)
    table = pd.DataFrame({"method": ["lora"], "seed": [0], "digest": ["0" * 16]})
    found = Predictions("made up", table, logits, np.array([0, 1, 1, 0, 1]), tuple("abcde"))
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp([-4.0, -3, -2, -1, -0.5])))
    assert confidence.confident_correct(found, 3).tolist() == [[True, False, True, False, False]]
    assert confidence.unconfident_wrong(found, 2).tolist() == [[False, False, False, True, True]]
    with pytest.raises(UserError, match="a set of 6 images cannot be taken from 5"):
        confidence.confident_correct(found, 6)


def test_overlap_is_hypergeometric() -> None:
    random = np.random.default_rng(0)
    n, a, b = 60, 24, 20
    law = stats.hypergeom(n, a, b)
    one = np.arange(n) < a
    drawn = []
    for _ in range(4000):
        two = np.zeros(n, dtype=bool)
        two[random.choice(n, b, replace=False)] = True
        drawn.append(int((one & two).sum()))
    met = confidence.overlap_of_counts(n, (a, b), drawn[-1])
    assert (met.chance, met.deviation) == (pytest.approx(law.mean()), pytest.approx(law.std()))
    assert np.mean(drawn) == pytest.approx(law.mean(), abs=0.15)
    assert np.std(drawn) == pytest.approx(law.std(), rel=0.05)
    assert confidence.overlap_of_counts(n, (a, a), a).beyond_chance == 1
    assert math.isnan(confidence.overlap_of_counts(5, (5, 5), 5).beyond_chance)
    assert confidence.overlap_of_counts(1, (1, 0), 0).z == 0


def test_the_published_overlap_is_at_chance_level() -> None:
    """Fig. 1b of the study: 4,925 and 4,902 of 10,000 images, 988 + 1,425 shared."""
    met = confidence.overlap_of_counts(10_000, (4925, 4902), 988 + 1425)
    assert met.chance == pytest.approx(2414, abs=0.5)
    assert abs(met.z) < 0.1 and abs(met.beyond_chance) < 0.001
    with pytest.raises(UserError, match="5000 shared by sets of 4925 and 4902 among 10000 images is impossible"):
        confidence.overlap_of_counts(10_000, (4925, 4902), 5000)


def test_pairs_of_sets() -> None:
    found = noisy(0.7, GRID)
    random = np.random.default_rng(1)
    logits = found.logits * random.uniform(1, 3, (9, found.logits.shape[1], 1)).astype(np.float32)
    table = confidence.pairs(dataclasses.replace(found, logits=logits), 1000)
    assert len(table) == 18 and (table["shared"] - table["chance"]).abs().max() < 5  # of unrelated confidences
    alike = dataclasses.replace(found, logits=np.repeat(logits[:1], 9, axis=0))
    same = confidence.pairs(alike, 1000, "unconfident_wrong")
    assert (same["shared"] == 100).all() and same["chance"].max() < 50
    with pytest.raises(UserError, match="unknown set 'confident'"):
        confidence.pairs(found, 10, "confident")


# ensembles


def test_a_majority_of_three_independent_voters() -> None:
    found = noisy(0.7, [("lora", 0), ("ssf", 0), ("bitfit", 0)], n=100_000, count=2)
    exact = 100 * (0.7**3 + 3 * 0.7**2 * 0.3)
    for how in ensembles.HOW:
        assert ensembles.accuracy(ensembles.combine(found.logits, how), found.labels) == pytest.approx(exact, abs=0.5)
    assert ensembles.oracle(found.correct) == pytest.approx(100 * (1 - 0.3**3), abs=0.3)


def test_the_ways_to_combine_differ_where_they_should() -> None:
    logits = np.array([[[9.0, 0, 0]], [[0, 2, 1]], [[0, 2, 1]]])
    assert ensembles.combine(logits, "logit").argmax() == 0  # one loud run
    assert ensembles.combine(logits, "vote").argmax() == 1
    tie = np.array([[[3.0, 0, 0]], [[0, 1.0, 0]]])
    assert ensembles.combine(tie, "vote").argmax() == 0  # one vote each, decided by the probability
    assert ensembles.combine(tie, "probability").sum() == pytest.approx(1)
    with pytest.raises(UserError, match="unknown way to combine runs 'mean'; it is logit, probability, vote"):
        ensembles.combine(logits, "mean")


def test_summary_and_equal_sizes() -> None:
    found = noisy(0.7, GRID, n=20_000)
    numbers = ensembles.summary(found)
    assert numbers["worst single"] <= numbers["mean single"] <= numbers["best single"] <= numbers["ensemble"]
    assert numbers["oracle"] == pytest.approx(100 * (1 - 0.3**3), abs=0.5)
    table = ensembles.same_size(found, 3)
    assert table["kind"].value_counts().to_dict() == {"seeds": 3, "methods": 1}
    by_kind = table.groupby("kind")["accuracy"].mean()
    assert by_kind["methods"] == pytest.approx(by_kind["seeds"], abs=1)  # unrelated mistakes: methods do not matter
    classes = found.classes.reshape(3, 3, -1)
    alike = from_classes(np.repeat(classes[:, :1], 3, axis=1).reshape(9, -1), found.labels, GRID)
    by_kind = ensembles.same_size(alike, 3).groupby("kind")[["single", "accuracy"]].mean()
    assert by_kind.loc["seeds", "accuracy"] == pytest.approx(by_kind.loc["seeds", "single"])  # equal seeds gain nothing
    assert by_kind.loc["methods", "accuracy"] > by_kind.loc["methods", "single"] + 5
    with pytest.raises(UserError, match="ensembles of 4 need 4 methods and 4 seeds"):
        ensembles.same_size(found, 4)
