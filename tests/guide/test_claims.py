"""The claims ledger: the rule of a verdict, published verdicts against known figures, ours on the shipped records."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.study.statistics import Interval
from petl_core.utils import RESULTS, UserError
from petl_guide import __main__ as command
from petl_guide import ledger, published
from petl_guide.claims import ours as claims_ours
from petl_guide.claims import published as claims_published
from petl_guide.claims import table as claims
from petl_guide.results import Results, of_folder, open_results
from petl_guide.verdict import (
    CONTRADICTED,
    NOT_RUN,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Control,
    Evidence,
    Verdict,
    judged,
)

WORDS = {SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN, NOT_TESTABLE}


@pytest.fixture(scope="module")
def shipped() -> Results:
    return open_results("laptop")


def test_verdicts_that_changed_are_named(shipped: Results, tmp_path, capsys) -> None:
    better = Records(shipped.records.root)  # the same runs, but BitFit five points better
    for record in better.pack.records.values():
        if record["spec"]["method"] == "bitfit":
            record["metrics"]["accuracy"] += 5.0
    differ = claims.changed(shipped, better)
    assert differ["C2"] == (UNDECIDED, SUPPORTED)
    assert "C6" not in differ
    root = str(shipped.records.root)
    assert command.main(["claims", "--profile", "quick", "--compare", root]) == 0
    assert capsys.readouterr().out == "verdicts that changed: 0 of 15\n"
    assert command.main(["claims", "--profile", "quick", "--compare", str(tmp_path)]) == 2
    assert "has none of the runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "passes", "margin", "word"),
    [
        (0.1, 2.0, True, 0.0, SUPPORTED),
        (-2.0, -0.1, True, 0.0, CONTRADICTED),
        (-0.1, 2.0, True, 0.0, UNDECIDED),
        (0.1, 2.0, False, 0.0, UNDECIDED),  # a control that fails makes any interval worthless
        (-1.5, -0.5, True, -2.0, SUPPORTED),  # not worse by more than two points
        (-3.5, -2.5, True, -2.0, CONTRADICTED),
        (math.nan, math.nan, True, 0.0, UNDECIDED),
    ],
)
def test_the_rule(low: float, high: float, passes: bool, margin: float, word: str) -> None:
    controls = (Control("good", 1, 0, True), Control("seeds", 1, 2, passes))
    verdict = judged(Evidence(Interval(0.0, low, high, 5), controls=controls, margin=margin))
    assert (verdict.verdict, verdict.behaves, verdict.threshold) == (word, passes, margin)
    turned = judged(Evidence(Interval(0.0, -high, -low, 5), controls=controls, margin=-margin, below=True))
    assert turned.verdict == word


def test_a_verdict_reads_well() -> None:
    verdict = judged(Evidence(Interval(1.234, 0.5, 2.0, 11), "points", "seeds differ by 0.3", note="small"))
    assert str(verdict) == "supported: +1.23 [+0.50, +2.00] points, 11 tasks; seeds differ by 0.3; small"
    assert str(Verdict(NOT_RUN, note="no runs")) == "not run: no runs"


def test_there_are_fifteen_claims_each_with_all_its_parts() -> None:
    assert [claim.number for claim in claims.CLAIMS] == [f"C{i}" for i in range(1, 16)]
    for claim in claims.CLAIMS:
        assert all((claim.text, claim.published, claim.check, claim.falsifier, claim.chapter, claim.section))
        assert claim.on_published or claim.why_published
        assert claim.on_ours or claim.why_ours
    with pytest.raises(UserError, match=r"'C16'.*C1, C2"):
        claims.get("C16")


def test_the_published_numbers_judged() -> None:
    found = {claim.number: claims.on_published(claim) for claim in claims.CLAIMS}
    assert all(verdict.verdict in WORDS for verdict in found.values())
    means = published.scores()[published.counted(published.scores().columns)].mean()
    assert found["C1"].effect == pytest.approx(means.std(ddof=1))
    assert found["C3"].effect > 10 and found["C3"].verdict == UNDECIDED and "1e-2" in found["C3"].control
    assert abs(found["C7"].effect) < 0.05  # at chance level
    assert found["C11"].effect == pytest.approx(13.4, abs=0.5) and not found["C11"].behaves
    assert found["C12"].verdict == SUPPORTED and found["C12"].low > 1
    assert found["C13"].high < 0  # below 77 % on ImageNet LoRA's ensemble is ahead
    for number in ("C6", "C8", "C10", "C14", "C15"):
        assert found[number].verdict == NOT_TESTABLE and found[number].note


def test_the_deviation_between_methods_is_bootstrapped_over_tasks() -> None:
    scores = published.scores()[["lora", "ssf", "bitfit"]]
    same = claims_published.bootstrap_deviation(scores.assign(ssf=scores["lora"], bitfit=scores["lora"]))
    assert same.mean == pytest.approx(0, abs=1e-9) and same.high == pytest.approx(0, abs=1e-9)
    shifted = scores.assign(ssf=scores["lora"] + 1, bitfit=scores["lora"] - 1)
    found = claims_published.bootstrap_deviation(shifted)
    assert (found.low, found.mean, found.high) == pytest.approx((1, 1, 1))


def test_our_records_judged(shipped: Results) -> None:
    table = claims.ledger(shipped).set_index("claim")["ours"]
    for number in ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C11", "C12", "C13"):
        verdict = table[number]
        assert verdict.verdict in {SUPPORTED, CONTRADICTED, UNDECIDED}, verdict
        assert verdict.low <= verdict.effect <= verdict.high and verdict.control and verdict.profile == "laptop"
    assert table["C10"].control and table["C10"].verdict in {SUPPORTED, CONTRADICTED, UNDECIDED}
    assert table["C14"].verdict in {SUPPORTED, CONTRADICTED, UNDECIDED} and "C1 is" in table["C14"].control
    assert table["C15"].verdict == NOT_TESTABLE


def test_another_backbone_has_its_own_part_or_is_that_of_the_photographs(shipped: Results) -> None:
    there = claims_ours.elsewhere(shipped).table
    assert set(there["backbone"]) == {"vit_tiny_patch16_224"} and set(there["variant"]) == {"tuned"}
    twin = shipped.table[shipped.table["variant"] == "tuned"].assign(variant="second_backbone", backbone="other")
    both = shipped.of(pd.concat([shipped.table, twin]))
    other = claims_ours.elsewhere(both)
    assert set(other.table["backbone"]) == {"other"}
    assert all(here == there for here, there in claims_ours.beside(both, other, ("C1", "C6")).values())
    large = Results(profile("gpu"), shipped.records, fresh=False)
    assert claims.on_ours(claims.get("C14"), large).verdict == NOT_RUN


def test_the_findings_hold_elsewhere_only_if_each_check_says_so(shipped: Results, monkeypatch) -> None:
    supported, contradicted, undecided = (Verdict(word) for word in (SUPPORTED, CONTRADICTED, UNDECIDED))
    for first, second, word in (
        (supported, supported, SUPPORTED),
        (supported, undecided, UNDECIDED),
        (supported, contradicted, CONTRADICTED),
    ):
        pairs = {"C1": (supported, first), "C6": (supported, second)}
        monkeypatch.setattr(claims_ours, "beside", lambda results, there, numbers, pairs=pairs: pairs)
        assert claims_ours.other_backbone(shipped).verdict == word


def test_missing_runs_make_not_run_and_name_the_command(tmp_path) -> None:
    empty = Results(profile("quick"), Records(tmp_path), fresh=True)
    for claim in claims.CLAIMS[:13]:
        verdict = claims.on_ours(claim, empty)
        assert verdict.verdict == NOT_RUN
        assert "python -m petl_core study --profile quick" in verdict.note


def test_the_checks_on_published_numbers_name_what_they_lack() -> None:
    failed = {
        claim.number: [control.name for control in claim.on_published().controls if not control.passes]
        for claim in claims.CLAIMS
        if claim.on_published
    }
    assert {number for number, names in failed.items() if names} == {"C1", "C3", "C4", "C5", "C7", "C9", "C11", "C13"}


def test_the_command(shipped: Results, capsys: pytest.CaptureFixture) -> None:
    assert command.main(["claims", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [claim["number"] for claim in read["claims"]] == [claim.number for claim in claims.CLAIMS]
    verdict = read["claims"][0]["on_ours"]
    assert np.isfinite(verdict["effect"]) and read["profile"] == verdict["profile"] == "laptop"
    assert read["claims"][5]["on_published"]["effect"] is None  # NaN is no JSON
    assert command.main(["claims", "--profile", "huge"]) == 2
    assert "'huge'" in capsys.readouterr().err


def test_the_ledger_as_text(shipped: Results) -> None:
    lines = ledger.as_text(shipped).splitlines()
    assert [line[:3].strip() for line in lines[2::3]] == [claim.number for claim in claims.CLAIMS]
    assert all(line.startswith("    ours:      ") for line in lines[4::3])


@pytest.mark.parametrize(
    ("profile_name", "folder", "said"),
    [
        ("quick", "empty", "no records"),
        ("quick", "absent", "no records"),
        ("gpu", "", "other tasks or methods"),  # the shipped records of laptop, said to be others
        ("smoke", "", "epochs"),
        ("laptop", "real", "other tasks or methods"),
    ],
)
def test_records_of_another_profile_or_none_are_refused(
    profile_name: str, folder: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    place = tmp_path / folder if said == "no records" else RESULTS / folder
    assert command.main(["claims", "--profile", profile_name, "--results", str(place)]) == 2
    output = capsys.readouterr()
    assert said in output.err and str(place) in output.err and not output.out


def test_records_that_cover_a_part_of_a_profile_are_not_its_records(shipped: Results, monkeypatch) -> None:
    table = shipped.table[shipped.table["task"] != "digits"]
    monkeypatch.setattr(Records, "table", lambda self: table)
    with pytest.raises(UserError, match=r"'laptop'.*no tuned runs on digits"):
        of_folder("laptop", shipped.records.root)
    monkeypatch.setattr(Records, "table", lambda self: table.assign(backbone="other"))
    with pytest.raises(UserError, match="they tune other, not mini"):
        of_folder("laptop", shipped.records.root)
    monkeypatch.setattr(Records, "table", lambda self: table[table["variant"] == "many_shot"])
    assert not of_folder("laptop", shipped.records.root).has("tuned")  # a study of one part is one all the same
