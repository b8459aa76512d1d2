"""The judge: its order, each kind of claim, and whether the planned numbers of tasks can decide."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from petl_core.utils import UserError
from petl_guide.claims import measures
from petl_guide.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    HETEROGENEOUS,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    Balance,
    ByTask,
    Control,
    Elsewhere,
    Estimate,
    Evidence,
    Verdict,
    judged,
    of_draws,
    over,
)

GOOD, BAD = Control("a number", 1.0, 2.0, passes=True), Control("another", 9.0, 2.0, passes=False)


def effects(*values: float) -> dict[str, float]:
    return {f"t{number}": value for number, value in enumerate(values)}


def around(mean: float, spread: float = 0.1, n: int = 6) -> dict[str, float]:
    """n effects of this mean."""
    return effects(*(mean + spread * (-1) ** number for number in range(n)))


def word(found, **changes) -> str:
    return judged(replace(found, **changes)).verdict


@pytest.mark.parametrize(
    ("kind", "mean", "expected"),
    [
        ("better", 5.0, SUPPORTED),
        ("better", -5.0, CONTRADICTED),
        ("better", 1.0, EQUIVALENT),  # above 0, but inside the margin: this is asked first
        ("not worse", 5.0, SUPPORTED),
        ("not worse", -5.0, CONTRADICTED),
        ("not worse", -1.0, EQUIVALENT),
        ("alike", 1.0, SUPPORTED),
        ("alike", 5.0, CONTRADICTED),
    ],
)
def test_a_kind_of_claim_by_the_side_of_its_interval(kind: str, mean: float, expected: str) -> None:
    found = Evidence(around(mean), kind=kind, margin=2.0)
    assert word(found) == expected
    wide = Evidence(around(mean, spread=20.0), kind=kind, margin=2.0)
    assert word(wide) == UNDECIDED
    verdict = judged(found)
    place = verdict.standardised[0]
    assert expected == EQUIVALENT or (place > 1) == (expected == SUPPORTED)
    assert verdict.speaks_for == (expected == SUPPORTED or (expected == EQUIVALENT and kind == "not worse"))
    assert verdict.speaks_against == (not verdict.speaks_for)


def test_the_first_of_the_order_that_holds_decides() -> None:
    apart = Evidence(effects(9, 9, 9, -9, -9, -9), variances=dict.fromkeys(effects(*range(6)), 0.5))
    assert word(apart) == HETEROGENEOUS
    failed = judged(replace(apart, controls=(GOOD, BAD)))
    assert failed.verdict == UNDECIDED and failed.effect == 0 and "another 9 (limit 2)" in failed.reason
    few = Evidence(around(5.0, n=4))
    assert word(few) == UNDECIDED and "too few tasks: 4" in judged(few).reason
    assert word(few, sample="seeds") == SUPPORTED
    assert "not run" in judged(replace(few, controls=(replace(BAD, value=math.nan),))).reason
    with pytest.raises(UserError):
        judged(Evidence())


def test_signs_are_apart_where_two_units_or_more_are_clear_of_noise_on_either_side() -> None:
    found = Evidence(effects(9, 9, 9, 9, -9, -9), variances=dict.fromkeys(effects(*range(6)), 0.5))
    assert word(found) == HETEROGENEOUS
    assert word(found, variances=dict.fromkeys(found.effects, 30.0)) == UNDECIDED  # noise may have done it
    assert word(found, effects=effects(9, 9, 9, 9, 9, -9)) == UNDECIDED  # one is not enough
    assert word(found, kind="alike") == UNDECIDED
    z = 2.3940  # of the normal distribution at 1 - 0.05 / 6
    for clear, expected in ((2 + z + 0.01, HETEROGENEOUS), (2 + z - 0.01, UNDECIDED)):
        edge = effects(clear, clear, 0, 0, -9, -9)
        assert word(found, effects=edge, variances=dict.fromkeys(edge, 1.0)) == expected
    many = {f"t{n}": 9.0 - 18 * (n < 2) for n in range(14)}  # of 14, two are too few: it takes 15 %
    assert word(found, effects=many, variances=dict.fromkeys(many, 0.5)) == SUPPORTED


def test_a_handicap_is_taken_off_for_the_claim_and_not_against_it() -> None:
    behind = Control("rates at an end", 90.0, 25.0, passes=False, handicapped=True)
    found = Evidence(around(5.0), handicaps=dict.fromkeys(around(0), 3.0), controls=(behind,))
    assert word(found) == SUPPORTED
    wide = judged(replace(found, handicaps=dict.fromkeys(around(0), 5.0)))
    assert wide.verdict == UNDECIDED and "rates at an end" in wide.reason
    assert word(found, effects=around(-5.0)) == CONTRADICTED
    assert word(found, effects=around(-1.5)) == CONTRADICTED  # less three it leaves the margin: not equivalent
    assert word(found, controls=(replace(behind, handicapped=False),)) == UNDECIDED


def test_a_size_is_apart_where_a_quarter_of_the_tasks_lies_surely_on_either_side() -> None:
    found = Evidence(effects(*[0.0] * 8), kind="alike", estimate=Estimate(2.0, low90=1.0, high90=3.0, n=8))
    sides = [(0.1, 1.0)] * 2 + [(3.0, 5.0)] * 2 + [(1.0, 3.0)] * 4
    bounds = dict(zip(found.effects, sides, strict=True))
    assert word(found, bounds=bounds) == HETEROGENEOUS
    assert word(found, bounds={**bounds, "t0": (1.0, 3.0)}) == UNDECIDED
    assert word(found) == UNDECIDED


def parts(*means: float, failing: int = 0) -> ByTask:
    found = {f"t{n}": Evidence(around(mean), kind="not worse", sample="seeds") for n, mean in enumerate(means)}
    last = list(found)[len(found) - failing :]
    return ByTask({name: replace(one, controls=(BAD,) if name in last else ()) for name, one in found.items()})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (parts(5, 0), SUPPORTED),  # supported and equivalent
        (parts(-9, -9), CONTRADICTED),
        (parts(5, -9), HETEROGENEOUS),
        (parts(5, -2), UNDECIDED),
        (parts(5, 5, -9, failing=1), SUPPORTED),  # a task whose control fails does not count
        (parts(5, 5, failing=1), UNDECIDED),
    ],
)
def test_claims_by_task(found: ByTask, expected: str) -> None:
    verdict = judged(found)
    assert verdict.verdict == expected and set(verdict.parts) == set(found.parts) and "t0" in verdict.told


@pytest.mark.parametrize(
    ("curve", "top", "expected"),
    [
        (3, 0, SUPPORTED),
        (0, 3, SUPPORTED),
        (-3, 0, CONTRADICTED),
        (-3, 3, HETEROGENEOUS),
        (0, 0, UNDECIDED),
    ],
)
def test_a_balance_has_two_effects(curve: float, top: float, expected: str) -> None:
    along, higher = (Evidence(around(mean), margin=0.5, sample="seeds") for mean in (curve, top))
    assert judged(Balance(along, higher)).verdict == expected
    failed = judged(Balance(replace(along, controls=(BAD,)), higher))
    assert failed.verdict == UNDECIDED and "another" in failed.reason and set(failed.parts) == {"top"}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((SUPPORTED,) * 4, SUPPORTED),
        ((SUPPORTED, SUPPORTED, HETEROGENEOUS, EQUIVALENT), SUPPORTED),
        ((CONTRADICTED, SUPPORTED, SUPPORTED, SUPPORTED), HETEROGENEOUS),
        ((CONTRADICTED, CONTRADICTED, SUPPORTED, SUPPORTED), CONTRADICTED),
        ((CONTRADICTED, UNDECIDED, NOT_RUN, SUPPORTED), UNDECIDED),
    ],
)
def test_findings_elsewhere(there: tuple[str, ...], expected: str) -> None:
    pairs = {f"C{n}": (Verdict(SUPPORTED), Verdict(word)) for n, word in enumerate(there)}
    assert judged(Elsewhere(pairs)).verdict == expected


def test_effects_on_one_scale() -> None:
    assert Verdict(UNDECIDED, 2.0, 1.0, 3.0).standardised[0] == pytest.approx(2.0)
    assert Verdict(UNDECIDED, -1.0, -1.6, -0.4, kind="not worse", margin=2.0).standardised[0] == pytest.approx(1 / 0.6)
    assert Verdict(UNDECIDED, 1.0, 0.5, 5.0, kind="alike", margin=2.0).standardised[0] == pytest.approx(0.25)
    assert all(math.isnan(value) for value in Verdict(NOT_RUN).standardised)


def test_a_verdict_reads_well() -> None:
    verdict = judged(Evidence(effects(1, 1.5, 1, 1.5, 1), margin=0.5, told="seeds differ by 0.3"))
    assert str(verdict).startswith("supported: +1.20 [+0.86, +1.54] points, 5 tasks; seeds differ")
    assert str(Verdict(NOT_RUN, reason="no runs")) == "not run: no runs"


# measures


def test_intervals_are_those_of_student() -> None:
    found = over(effects(1.0, 2.0, 3.0, 4.0))
    half = np.std([1, 2, 3, 4], ddof=1) / 2
    assert (found.high - found.mean, found.high90 - found.mean) == pytest.approx(
        (3.18245 * half, 2.35336 * half), rel=1e-5
    )
    drawn = of_draws(0.0, np.arange(1001.0), 5)
    assert (drawn.low, drawn.low90, drawn.high90, drawn.high) == (25, 50, 950, 975)


@pytest.mark.parametrize(("n", "first"), [(19, 6), (11, 3), (10, 2), (6, 1)])
def test_the_median_has_order_statistics(n: int, first: int) -> None:
    found = measures.median([float(value) for value in range(1, n + 1)])
    assert (found.mean, found.low90, found.high90) == ((n + 1) / 2, first, n + 1 - first)
    assert math.isnan(measures.median([1.0, 2.0, 3.0]).low90)


def test_the_contrast_is_welch_s() -> None:
    found = measures.contrast([5.0, 7.0, 9.0], [1.0, 1.0, 2.0, 2.0])
    assert found.mean == 5.5 and found.n == 7
    error = math.sqrt(4 / 3 + (1 / 3) / 4)
    freedom = error**4 / ((4 / 3) ** 2 / 2 + (1 / 12) ** 2 / 3)
    assert freedom == pytest.approx(2.25, abs=0.01)
    assert found.high - found.mean == pytest.approx(3.88 * error, rel=0.02)
    near, far = measures.halves(pd.Series({"a": 3.0, "b": 1.0, "c": 2.0}))
    assert (near, far) == (["b"], ["a"])


# Can the planned numbers decide? The words of 300 studies with Student's interval, by the rules alone.


@pytest.mark.parametrize(
    ("kind", "n", "sd", "truth", "words", "chance"),
    [
        ("not worse", 11, 2.15, 0.0, (SUPPORTED, EQUIVALENT), 0.89),  # C2
        ("not worse", 11, 2.15, -4.0, (CONTRADICTED,), 0.89),
        ("better", 11, 8.0, 10.0, (SUPPORTED,), 0.96),  # C3a
        ("better", 11, 8.0, -7.0, (CONTRADICTED,), 0.75),  # C3b
        ("better", 6, 2.2, 0.0, (EQUIVALENT,), 0.30),
    ],
)
def test_power(kind: str, n: int, sd: float, truth: float, words: tuple[str, ...], chance: float) -> None:
    random, draws = np.random.default_rng(0), 300
    found = [word(Evidence(effects(*random.normal(truth, sd, n)), kind=kind)) for _ in range(draws)]
    share = sum(one in words for one in found) / draws
    assert share == pytest.approx(chance, abs=0.005 + 3 * math.sqrt(chance * (1 - chance) / draws))
