"""The adaptive search: what is tried after what, the choice among the trials, and its mark at the edge."""

import itertools

import pytest

from petl_core import methods
from petl_core.study.profiles_adaptive import MINI, TRIALS, VIT
from petl_core.study.search import (
    Adaptive,
    Setting,
    Tried,
    at_edge,
    better,
    first_settings,
    is_step,
    next_setting,
    step,
    times,
)
from petl_core.utils import UserError

RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def tried(method: str, results: list[tuple], rates: tuple[float, ...] = RATES) -> list[Tried]:
    """Trials from (rate, accuracy) or (rate, accuracy, size)."""
    default = first_settings(method, rates)[0].hyper
    name = type(methods.get(method)).size_field
    return [
        Tried(Setting(default if not more else {**default, name: more[0]}, rate), accuracy, more[0] if more else 8)
        for rate, accuracy, *more in results
    ]


def stage_1(*accuracies: float | None) -> list[tuple]:
    return list(zip(RATES, accuracies, strict=True))


def asked(method: str, results: list[tuple]) -> tuple | None:
    """The next point as (rate,) or, with another size than the default, (rate, size)."""
    point = next_setting(method, RATES, tried(method, results), TRIALS)
    name, default = type(methods.get(method)).size_field, methods.get(method).hyper()
    if point is None:
        return None
    changed = {key for key in default if point.hyper[key] != default[key]}
    assert changed <= {name}
    return (point.lr, point.hyper[name]) if changed else (point.lr,)


INSIDE = stage_1(10, 30, 20, 5)
HIGH = stage_1(10, 20, 30, 40)
LOW = stage_1(40, 30, 20, 10)


@pytest.mark.parametrize(
    ("method", "results", "expected"),
    [
        # stage 1: the four rates, from low to high, whatever they gave
        ("lora", [], (1e-3,)),
        ("lora", HIGH[:3], (3e-2,)),
        ("lora", stage_1(None, 1, 2, 3)[:1], (3e-3,)),
        # rule 1: outward from the best at an end; its result counts, and it is asked again
        ("lora", HIGH, (1e-1,)),
        ("lora", LOW, (3e-4,)),
        ("bitfit", HIGH, (1e-1,)),
        ("lora", [*HIGH, (1e-1, 50)], (3e-1,)),
        ("lora", [*LOW, (3e-4, 50)], (1e-4,)),
        # ... which now says that the best is inside: rules 2 and 3 at that rate
        ("lora", [*HIGH, (1e-1, 30)], (3e-2, 32)),
        ("bitfit", [*HIGH, (1e-1, 30)], (6e-2,)),
        ("lora", [*LOW, (3e-4, 30)], (1e-3, 32)),
        ("linear", [*LOW, (3e-4, 30)], (2e-3,)),
        ("full", [*HIGH, (1e-1, None)], (6e-2,)),  # the step outward diverged
        # rule 2: larger, then smaller, at the best rate; rule 1 is not asked after a changed size
        ("lora", INSIDE, (3e-3, 32)),
        ("lora", [*INSIDE, (3e-3, 90, 32)], (3e-3, 2)),
        ("lora", [*INSIDE, (3e-3, None, 32)], (3e-3, 2)),
        ("lora", [*HIGH, (1e-1, 30), (3e-2, 99, 32)], None),
        ("fact_tt", INSIDE, (3e-3, 64)),
        ("adaptformer", INSIDE, (3e-3, 32)),
        ("vpt_deep", INSIDE, (3e-3, 20)),
        ("vpt_deep", [*INSIDE, (3e-3, 10, 20)], (3e-3, 1)),
        # rule 3, without a size: twice, then half, rounded to one digit
        ("full", INSIDE, (6e-3,)),
        ("full", [*INSIDE, (6e-3, 1)], (2e-3,)),
        ("full", [*INSIDE, (6e-3, 99)], (2e-3,)),  # half of the best step, not of what rule 3 found
        ("selective", stage_1(10, 20, 30, 5), (2e-2,)),
        ("ssf", [*stage_1(10, 20, 30, 5), (2e-2, 1)], (5e-3,)),
        # ties go to the lower rate, so that equal ends are the low end
        ("lora", stage_1(30, 30, 30, 30), (3e-4,)),
        ("bitfit", stage_1(10, 30, 30, 10), (6e-3,)),
        ("lora", [*HIGH, (1e-1, 40)], (3e-2, 32)),
        # diverged trials never win, and count as tried
        ("lora", stage_1(10, 20, 30, None), (1e-2, 32)),
        ("full", stage_1(10, None, None, None), (3e-4,)),
        ("full", stage_1(None, None, None, 10), (1e-1,)),
        ("full", stage_1(None, None, None, None), (3e-4,)),
        ("full", [*stage_1(None, None, None, None), (3e-4, None)], (1e-4,)),
        ("lora", [*stage_1(None, None, None, None), (3e-4, 5)], (1e-4,)),
        # six are enough
        ("lora", [*INSIDE, (3e-3, 1, 32), (3e-3, 1, 2)], None),
    ],
)
def test_the_next_trial(method, results, expected):
    assert asked(method, results) == expected


@pytest.mark.parametrize(
    ("default", "field", "expected"),
    [
        (8, "rank", [32, 2]),
        (64, "rank", [128, 16]),
        (2, "rank", [8, 1]),
        (5, "prompts", [20, 1]),
        (20, "prompts", [64, 5]),
        (1, "rank", [4]),  # a quarter is clipped to what was tried: on with the next of the list
        (128, "rank", [32]),
        (64, "prompts", [16]),
    ],
)
def test_sizes_are_clipped_and_what_was_tried_is_passed_over(monkeypatch, default, field, expected):
    method = "lora" if field == "rank" else "vpt_deep"
    cls = methods.registry[method]
    monkeypatch.setattr(cls, "hyper", lambda self: {field: default})
    trials = [Tried(Setting({field: default}, rate), accuracy, default) for rate, accuracy in INSIDE]
    found = []
    while (point := next_setting(method, RATES, trials, TRIALS)) is not None:
        found.append((point.lr, point.hyper[field]))
        trials.append(Tried(point, 1.0, 1))
    rest = [(6e-3, default), (2e-3, default)][: 2 - len(expected)]
    assert found == [*((3e-3, size) for size in expected), *rest]


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("search", [MINI, VIT])
def test_every_method_gets_six_different_valid_trials_whatever_they_give(method, search):
    rates = search.rates(method)
    for order in itertools.permutations((1.0, 2.0, 3.0, None)):
        trials: list[Tried] = []
        while (point := next_setting(method, rates, trials, TRIALS)) is not None:
            methods.get(method, **point.hyper)
            trials.append(Tried(point, order[len(trials) % 4], 1))
        assert len({repr(one.setting) for one in trials}) == len(trials) == TRIALS
        assert step(rates[0], -2) <= min(t.setting.lr for t in trials)
        assert max(t.setting.lr for t in trials) <= step(rates[-1], 2)


def test_no_rate_lies_more_than_two_steps_outside_the_first_ones():
    trials = tried("full", [*HIGH, (1e-1, 50), (3e-1, 60)])
    assert next_setting("full", RATES, trials, 8) == Setting({}, times(3e-1, 2))


def test_rates_by_method():
    for search in (MINI, VIT):
        assert search.rates("selective") == search.rates("full") == search.full
        assert search.rates("lora") == search.rates("layernorm") == search.others
        assert search.rates("linear") == search.linear == (3e-3, 1e-2, 3e-2, 1e-1)
    assert MINI.full == (3e-4, 1e-3, 3e-3, 1e-2) and MINI.others == RATES
    assert VIT.full == (3e-5, 1e-4, 3e-4, 1e-3) and VIT.others == MINI.full


@pytest.mark.parametrize("rates", [(), (1e-3, 1e-2), (2e-3, 6e-3), (3e-3, 1e-3)])
def test_rates_that_are_no_half_decade_steps_are_refused(rates):
    with pytest.raises(UserError, match="half a decade"):
        Adaptive(rates, RATES, RATES)


def test_steps_of_half_a_decade():
    assert [step(3e-3, count) for count in range(-3, 4)] == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    assert (step(1e-1, 1), step(1e-1, 2)) == (3e-1, 1.0)
    assert [step(rate, -1) for rate in (2e-3, 6e-3, 5e-4, 2e-2)] == [1e-3, 3e-3, 3e-4, 1e-2]
    assert [step(rate, 1) for rate in (2e-3, 6e-3, 5e-4, 2e-2)] == [3e-3, 1e-2, 1e-3, 3e-2]
    assert [times(rate, 0.5) for rate in (1e-3, 3e-3, 3e-4, 3e-5)] == [5e-4, 2e-3, 2e-4, 2e-5]
    assert [rate for rate in (1e-3, 2e-3, 3e-4, 6e-3, 1e-1, 1.0) if is_step(rate)] == [1e-3, 3e-4, 1e-1, 1.0]


def test_the_choice_and_its_ties():
    def of(*results: tuple) -> Tried | None:
        return better([Tried(Setting({"number": i}, rate), *rest) for i, (rate, *rest) in enumerate(results)])

    assert of((1e-3, 50.0, 1), (3e-3, 60.0, 1)).setting.lr == 3e-3
    assert of((3e-3, 60.0, 1), (1e-3, 60.0, 9)).setting.lr == 1e-3  # the lower rate before the smaller model
    assert of((1e-3, 60.0, 9), (1e-3, 60.0, 1)).params == 1
    assert of((1e-3, 60.0, 1), (1e-3, 60.0, 1)).setting.hyper == {"number": 0}
    assert of((1e-4, None, 1), (1e-3, 0.0, 1), (1e-2, float("nan"), 1)).setting.lr == 1e-3
    assert of((1e-3, None, 1)) is None


def test_a_choice_at_an_end_of_what_was_tried_is_at_the_edge():
    assert at_edge(1e-3, [1e-3, 3e-3, 1e-2])
    assert at_edge(1e-2, [1e-3, 1e-2, 3e-3])
    assert not at_edge(3e-3, [1e-3, 3e-3, 1e-2])
