"""The claims: rows of the ledger, verdicts on the shipped records, the command, and whose records it accepts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.utils import RESULTS, UserError
from petl_guide import __main__ as command
from petl_guide import ledger
from petl_guide.claims import ours
from petl_guide.claims import table as claims
from petl_guide.results import Results, of_folder, open_results
from petl_guide.verdict import CONTRADICTED, DECIDED, NOT_RUN, NOT_TESTABLE, SUPPORTED, TOLD, UNDECIDED

NUMBERS = ["C1a", "C1b", "C2", "C3a", "C3b", "C3r", "C4", "C5", "C6", "C7", "C8a", "C8b"]
NUMBERS += [f"C{number}" for number in range(9, 16)]


@pytest.fixture(scope="module")
def shipped() -> Results:
    return open_results("laptop")


@pytest.fixture(scope="module")
def found(shipped: Results) -> pd.DataFrame:
    return claims.ledger(shipped).set_index("claim")


def test_each_claim_has_all_its_parts() -> None:
    assert [claim.number for claim in claims.CLAIMS] == NUMBERS
    for claim in claims.CLAIMS:
        assert all((claim.text, claim.published, claim.check, claim.falsifier, claim.chapter, claim.section))
        assert claim.on_published or claim.why_published
        assert claim.on_ours or claim.why_ours
        assert claim.false or claim.number == "C15"
    assert [claim.number for claim in claims.CLAIMS if not claim.counted] == ["C3r", "C15"]
    with pytest.raises(UserError, match=r"'C16'.*C1a, C1b"):
        claims.get("C16")


def test_the_shipped_records_judged(found: pd.DataFrame) -> None:
    """They are of the short trials: most controls fail, and say by what number; the effects are there all the same."""
    for number in ("C1a", "C1b", "C2", "C3a", "C3b", "C4", "C5", "C12"):
        verdict = found.loc[number, "laptop"]
        assert verdict.verdict == UNDECIDED and verdict.reason.startswith("control: ")
        assert verdict.low <= verdict.effect <= verdict.high and verdict.profile == "laptop"
    assert "full's rate at an end, % of tasks" in {c.name for c in found.loc["C3b", "laptop"].controls}
    for number in ("C6", "C7", "C8a"):
        assert found.loc[number, "laptop"].verdict == SUPPORTED
    many = found.loc["C9", "laptop"]
    assert many.parts["orientation"].verdict == CONTRADICTED and "linear in its place" in many.parts["textures"].reason
    assert found.loc["C14", "laptop"].n == 0 and "C6 supported here" in found.loc["C14", "laptop"].told
    assert {found.loc["C4", "photographs"].verdict, found.loc["C3r", "laptop"].verdict} == {NOT_RUN}
    assert set(found.loc["C15"][list(claims.SOURCES)].map(lambda verdict: verdict.verdict)) == {TOLD}
    assert {found.loc[number, "published"].verdict for number in ("C6", "C8a", "C10", "C14")} == {NOT_TESTABLE}


def test_verdicts_that_changed_are_named(shipped: Results, tmp_path, capsys) -> None:
    better = Records(shipped.records.root)  # the same runs, but small methods and linear probing otherwise
    for record in better.pack.records.values():
        if "many_shot" in record["variants"] and record["spec"]["method"] != "full":
            record["metrics"]["accuracy"] -= 30.0
    differ = claims.changed(shipped, better)
    assert differ == {"C9": (UNDECIDED, CONTRADICTED)}
    root = str(shipped.records.root)
    assert command.main(["claims", "--profile", "quick", "--compare", root]) == 0
    assert capsys.readouterr().out == f"verdicts that changed: 0 of {len(NUMBERS)}\n"
    assert command.main(["claims", "--profile", "quick", "--compare", str(tmp_path)]) == 2
    assert "has none of the runs" in capsys.readouterr().err


def test_another_backbone_has_its_own_part_or_is_that_of_the_photographs(shipped: Results) -> None:
    there = ours.other(shipped).table
    assert set(there["backbone"]) == {"vit_tiny_patch16_224"}
    twin = shipped.table[shipped.table["variant"] == "tuned"].assign(variant="second_backbone", backbone="other")
    both = ours.other(shipped.of(pd.concat([shipped.table, twin]))).table
    assert set(both["backbone"]) == {"other"} and set(both["variant"]) == {"tuned"}
    assert ours.other(Results(profile("photographs"), shipped.records, fresh=False).of(there)).profile.name == "laptop"


def test_missing_runs_make_not_run_and_name_the_command(tmp_path) -> None:
    empty = Results(profile("quick"), Records(tmp_path), fresh=True)
    for claim in claims.CLAIMS:
        verdict = claims.on_ours(claim, empty)
        if claim.number not in ("C14", "C15"):
            assert verdict.verdict == NOT_RUN, verdict
            assert "python -m petl_core study --profile quick" in verdict.reason
    assert claims.on_ours(claims.get("C14"), empty).verdict == UNDECIDED  # nothing is decided in both


def test_the_ledger_as_json_and_text(shipped: Results, found: pd.DataFrame, monkeypatch, capsys) -> None:
    monkeypatch.setattr(claims, "ledger", lambda results: found.reset_index())
    assert command.main(["claims", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["profile"] == "laptop" and [claim["number"] for claim in read["claims"]] == NUMBERS
    for claim in read["claims"]:
        assert list(claim["evidence"]) == list(claims.SOURCES)
        for verdict in claim["evidence"].values():
            assert {"verdict", "effect", "interval", "n", "unit", "type", "margin", "controls"} <= set(verdict)
            for control in verdict["controls"]:
                assert set(control) == {"name", "value", "limit", "passes", "handicapped"}
            if verdict["verdict"] in DECIDED and not verdict["parts"]:
                assert math.isfinite(verdict["effect"])
    assert read["claims"][NUMBERS.index("C6")]["evidence"]["published"]["effect"] is None  # NaN is no JSON
    lines = ledger.as_text(shipped).splitlines()[2:]
    assert [line[:4].strip() for line in lines[::4]] == NUMBERS
    assert all(line.strip().startswith("laptop: ") for line in lines[3::4])
    assert command.main(["claims", "--profile", "huge"]) == 2
    assert "'huge'" in capsys.readouterr().err


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
