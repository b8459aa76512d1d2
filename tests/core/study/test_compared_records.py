"""The comparison of fresh records with shipped ones."""

import math

import pytest
from made_records import make_run, make_spec

from petl_core.study.agreement import compare
from petl_core.study.records import Records
from petl_core.training.train import Run


def with_accuracy(value: float, seed: int = 0, **changes) -> Run:
    return make_run(seed, accuracy=value, **changes)


def test_the_comparison_sorts_records_by_how_well_they_agree(tmp_path):
    fresh, shipped = Records(tmp_path / "fresh"), Records(tmp_path / "shipped")
    for seed, value in enumerate((80.0, 82.0, 84.0)):  # standard deviation 2: the interval is 1.96 sqrt(2) 2 = 5.54
        shipped.save(make_spec(seed=seed), with_accuracy(value, seed))
    fresh.save(make_spec(seed=0), with_accuracy(80.0, 0))
    fresh.save(make_spec(seed=1), with_accuracy(87.5, 8))
    fresh.save(make_spec(seed=2), with_accuracy(78.4, 9))
    fresh.save(make_spec(seed=3), with_accuracy(80.0, 3))
    result = compare(fresh, shipped)
    assert result.identical == [make_spec(seed=0).digest]
    assert result.within == [make_spec(seed=1).digest]
    assert result.outside == [make_spec(seed=2).digest]
    assert result.unknown == [make_spec(seed=3).digest]
    assert result.halves[make_spec(seed=2).digest] == pytest.approx(1.96 * math.sqrt(2) * 2)
    assert "3 records compared: 1 agree to the bit, 1 more lie within" in result.report(fresh)
    assert "-5.60 points" in result.report(fresh)


def test_equal_accuracy_with_other_logits_is_not_identical(tmp_path):
    fresh, shipped = Records(tmp_path / "fresh"), Records(tmp_path / "shipped")
    shipped.save(make_spec(), with_accuracy(80.0, 0))
    fresh.save(make_spec(), with_accuracy(80.0, 1))
    assert compare(fresh, shipped).identical == []
    assert compare(fresh, shipped).within == [make_spec().digest]


def test_diverging_here_and_not_there_is_outside(tmp_path):
    fresh, shipped = Records(tmp_path / "fresh"), Records(tmp_path / "shipped")
    shipped.save(make_spec(), with_accuracy(80.0))
    fresh.save(make_spec(), make_run(diverged=True))
    assert compare(fresh, shipped).outside == [make_spec().digest]
