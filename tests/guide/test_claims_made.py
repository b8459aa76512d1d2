"""The checks on our records, on a made-up study: each claim true and untrue, and with controls that fail."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_study import QUICK, TASKS, large_pay, made, usual

from petl_guide.claims import ours
from petl_guide.claims import table as claims
from petl_guide.claims.study import Study
from petl_guide.results import Results
from petl_guide.verdict import CONTRADICTED, EQUIVALENT, NOT_RUN, SUPPORTED, UNDECIDED, Verdict

TRUE = dict.fromkeys(("C1a", "C1b", "C2", "C3a", "C3b", "C4", "C6", "C7", "C8a", "C8b"), usual)
TRUE["C5"] = large_pay


@pytest.fixture(scope="module")
def studies() -> dict:
    return {truth: made(truth) for truth in (usual, large_pay)}


def said(number: str, results: Results) -> Verdict:
    return claims.on_ours(claims.get(number), results)


@pytest.mark.parametrize("number", TRUE)
def test_a_claim_that_is_true_is_supported_and_its_false_case_is_not(number: str, studies: dict) -> None:
    results = studies[TRUE[number]]
    verdict = said(number, results)
    assert verdict.verdict == (EQUIVALENT if number == "C2" else SUPPORTED), verdict
    assert verdict.speaks_for and all(control.passes for control in verdict.controls)
    false = claims.on_false(claims.get(number), results)
    assert not false.speaks_for and false.verdict != NOT_RUN, false


def test_the_findings_hold_elsewhere(monkeypatch: pytest.MonkeyPatch, studies: dict) -> None:
    monkeypatch.setattr(ours, "other", lambda results: made(tasks=TASKS[:6]))
    assert said("C14", studies[usual]).verdict == SUPPORTED
    assert not claims.on_false(claims.get("C14"), studies[usual]).speaks_for


def test_methods_without_a_liking_predict_as_seeds_do() -> None:
    luck = made(matters=False)
    assert said("C6", luck).verdict == EQUIVALENT and said("C7", luck).verdict == EQUIVALENT


@pytest.mark.parametrize("number", ["C1a", "C1b", "C2", "C3a", "C3b"])
def test_without_longer_runs_the_control_is_not_run_and_nothing_is_decided(number: str) -> None:
    verdict = said(number, made(parts=("repeats",)))
    assert verdict.verdict == UNDECIDED and "twice the epochs not run" in verdict.reason
    assert math.isfinite(verdict.effect)  # the effect is printed all the same


def test_a_method_without_longer_runs_has_those_of_lora() -> None:
    study = Study(made(longer={"lora": 1.2, "full": 0.1}))
    gain, more = study.length("adaptformer")
    assert gain == gain.__class__("adaptformer's gain by twice the epochs, by lora", gain.value, 1.5, True)
    assert (gain.value, more.value) == pytest.approx((1.2, 1.1), abs=0.5)
    assert [control.passes for control in Study(made(longer={"full": 4.0})).length("full")] == [False, True]
    assert [control.passes for control in Study(made(longer={"full": -4.0})).length("lora")] == [True, False]


def test_the_control_of_edges_counts_the_trials() -> None:
    study = Study(made(at_edge=("full",)))
    assert (study.edges("full").value, study.edges("lora").value) == (100, 0)
    assert not study.edges("full").passes
    for count, passes in ((2, True), (3, False)):
        results = made(at_edge=("ssf", "lora", "vpt_deep")[:count])
        controls = {control.name: control for control in ours.similar_means(results).controls}
        assert [control.passes for name, control in controls.items() if "rates at an end" in name] == [passes] * 2


@pytest.mark.parametrize(("ahead", "word"), [(12.0, SUPPORTED), (4.0, UNDECIDED), (-3.0, CONTRADICTED)])
def test_a_baseline_at_the_end_of_its_rates_carries_a_handicap(ahead: float, word: str) -> None:
    """Five points, what its last step gained: they are taken off for the claim, and not against it."""

    def truth(task: str, method: str) -> float:
        return usual(task, method) + (6 - ahead) * (method == "full")

    found = ours.above_full(made(truth, at_edge=("full",)))
    assert set(found.handicaps.values()) == {5.0}
    verdict = said("C3b", made(truth, at_edge=("full",)))
    assert verdict.verdict == word and ("at an end" in verdict.reason) == (word == UNDECIDED)
    assert said("C3b", made(truth)).verdict == (SUPPORTED if ahead > 0 else CONTRADICTED)


def test_the_noise_of_a_difference_is_that_of_seeds_and_of_choosing() -> None:
    study = Study(made(noise=1.0))
    assert study.seed_noise == pytest.approx(0.83, abs=0.15)  # the median of deviations of three
    assert study.choice_noise[0] < 0.6 and "own repeats" in study.choice_noise[1]
    table = study.results.table.copy()
    lot = {key: 4 * np.random.default_rng(i).standard_normal() for i, key in enumerate(
        (v, t, m) for v in ("repeat_1", "repeat_2", "tuned") for t in QUICK for m in study.scores)}  # fmt: skip
    moved = [lot.get(key, 0.0) for key in zip(table["variant"], table["task"], table["method"], strict=True)]
    wide = Study(study.results.of(table.assign(accuracy=table["accuracy"] + moved)))
    choice = wide.choice_noise[0]
    assert choice == pytest.approx(4.0, abs=1.0)
    v = 2 * (wide.seed_noise**2 / 3 + choice**2)
    assert wide.variances == pytest.approx(dict.fromkeys(TASKS, v))
    none = Study(made(parts=()))
    assert none.choice_noise == (0.0, "no repeats, so taken as 0")


def test_size_pays_more_on_far_tasks_by_so_much() -> None:
    verdict = said("C5", made(large_pay, noise=0.05))
    assert verdict.effect == pytest.approx(3.0, abs=0.1) and verdict.n == 10  # the middle task is on neither side
    assert "tasks on each side" in said("C5", made(large_pay, tasks=TASKS[:8])).reason


def test_a_task_that_is_not_fitted_does_not_count_for_drop_path() -> None:
    results = made()
    loose = (results.table["variant"] == "drop_path_0") & results.table["task"].isin(TASKS[:7])
    verdict = said("C4", results.of(results.table.assign(train_accuracy=results.table["train_accuracy"] - 6 * loose)))
    assert verdict.verdict == UNDECIDED and "tasks fitted to 95 %" in verdict.reason and verdict.n == 4


def at_resolution(gain: float, rise: float) -> Results:
    """LoRA gains so much on full fine-tuning at 224 px, where linear probing is better by the rise."""
    results = made(parts=())
    table = results.table
    low = table[(table["task"] == TASKS[0]) & table["method"].isin(["linear", "full", "lora"])]
    high = low.assign(variant=low["variant"].map({"tuned": "resolution_224", "trial": "resolution_224_trial"}))
    high = high.assign(accuracy=high["accuracy"] + high["method"].map({"linear": rise, "full": 8.0, "lora": 8 + gain}))
    twins = [f"h{digest}" for digest in high["digest"]]
    results.records.runs.update({new: results.records.runs[old] for new, old in zip(twins, high["digest"], strict=True)
                                 if old in results.records.runs})  # fmt: skip
    return results.of(pd.concat([table, high.assign(digest=twins)]))


@pytest.mark.parametrize(
    ("gain", "rise", "word"),
    [(8.0, 9.0, SUPPORTED), (-8.0, 9.0, CONTRADICTED), (8.0, 3.0, UNDECIDED)],
)
def test_resolution_is_judged_on_the_same_pictures(gain: float, rise: float, word: str) -> None:
    results = at_resolution(gain, rise)
    verdict = said("C3r", results)
    assert verdict.verdict == word and verdict.effect == pytest.approx(gain)
    assert ("linear's gain by resolution" in verdict.reason) == (word == UNDECIDED)
    assert not claims.on_false(claims.get("C3r"), results).speaks_for
