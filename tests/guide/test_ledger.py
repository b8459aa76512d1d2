"""The ledger read critically: false cases that no check may pass, what stands, the published record's weak points."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.utils import UserError
from petl_guide import ledger, published
from petl_guide.chapters import chapters
from petl_guide.claims import false
from petl_guide.claims import table as claims
from petl_guide.figures import ledger as ledger_figures
from petl_guide.results import Results, open_results
from petl_guide.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    HETEROGENEOUS,
    NOT_RUN,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Verdict,
)


@pytest.fixture(scope="module")
def shipped() -> Results:
    return open_results("laptop")


@pytest.fixture(scope="module")
def found(shipped: Results) -> pd.DataFrame:
    return claims.ledger(shipped)


def test_every_word_agrees_with_its_place_on_the_scale(found: pd.DataFrame) -> None:
    placed = 0
    for verdict in [verdict for source in claims.SOURCES for verdict in found[source]]:
        place = verdict.standardised[0]
        if math.isfinite(place) and verdict.verdict in (SUPPORTED, CONTRADICTED) and not verdict.parts:
            placed += 1
            assert (place > 1) == (verdict.verdict == SUPPORTED), verdict
    assert placed >= 6


def test_no_check_supports_a_claim_that_cannot_be_true(shipped: Results, found: pd.DataFrame) -> None:
    table = ledger.false_cases(shipped, dict(zip(found["claim"], found["laptop"], strict=True))).set_index("claim")
    assert list(table.index) == [claim.number for claim in claims.CLAIMS if claim.number != "C15"]
    assert set(table["passes"]) == {"yes", "–"} and list(table.index[table["passes"] == "–"]) == ["C3r"]
    changed = table.loc[["C6", "C7", "C8a", "C9", "C10"]]
    assert (changed["on the false case"] != changed["on our records"]).all()
    with pytest.raises(UserError, match=r"C15.*C1a, C1b"):
        claims.on_false(claims.get("C15"), shipped)


def test_changes_touch_what_they_say_and_nothing_else(shipped: Results) -> None:
    table, random = shipped.table, np.random.default_rng(0)
    tuned = (table["variant"] == "tuned") & (table["stage"] == "final")
    rest = [column for column in table if column not in false.CONTENTS]
    for change in (false.exchanged, false.one_answer, false.exchanged_in_world):
        other = change(table, random)
        assert other[rest].equals(table[rest])
        assert (other["digest"] != table["digest"]).any()
    other = false.exchanged(table, random)
    assert other[~tuned].equals(table[~tuned])
    cell = ["task", "seed", "digest", "accuracy"]
    keys = [sorted(map(tuple, frame.loc[tuned, cell].to_numpy())) for frame in (other, table)]
    assert keys[0] == keys[1] and (other["digest"] != table["digest"]).sum() > 300
    one = false.one_answer(table, random)
    peft = tuned & ~table["method"].isin(["linear", "full"])
    assert (one[peft].groupby(["task", "seed"])["digest"].nunique() == 1).all()
    assert one[~peft].equals(table[~peft])
    switched = false.switched(table, random)
    moved = switched["variant"] != table["variant"]
    assert 0 < moved.sum() < 54 and set(table.loc[moved, "variant"]) == {"drop_path_0", "drop_path_0.1"}


def test_the_published_record_s_weak_points() -> None:
    table = ledger.issues().set_index("issue")["computed"]
    text = table["the figures fit the best epoch on the test images"]
    last, best = (published.scores(which)["full"].mean() for which in published.WHICH)
    assert f"{last:.1f}" in text and f"{best:.1f}" in text and (round(last, 1), round(best, 1)) == (58.5, 65.9)
    assert "4 to 80" in table["unequal numbers of trials"]
    assert "18 of 19 tasks" in table["full fine-tuning had two rates, both high"]
    assert "100.0 %" in table["CLEVR's validation images are training images"]
    assert "0 of 13" in table["Retinopathy stays at the level of its largest class"]
    assert "largest: full" in table["CLIP's checkpoint was chosen on the test images"]
    numbers = {number.strip() for text in ledger.issues()["touches"] for number in text.split(",")} - {"all"}
    assert numbers <= {claim.number for claim in claims.CLAIMS}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((SUPPORTED, UNDECIDED, SUPPORTED), "for"),
        ((UNDECIDED, NOT_RUN, CONTRADICTED), "against"),
        ((SUPPORTED, UNDECIDED, CONTRADICTED), "mixed"),
        ((SUPPORTED, EQUIVALENT, UNDECIDED), "mixed"),  # of a claim "better"
        ((UNDECIDED, HETEROGENEOUS, UNDECIDED), "mixed"),
        ((UNDECIDED, NOT_RUN, NOT_RUN), "open"),
        ((NOT_TESTABLE, NOT_RUN, NOT_RUN), "not run"),
        ((NOT_TESTABLE,) * 3, "not testable"),
    ],
)
def test_what_stands_is_read_from_all_sides(words: tuple[str, ...], name: str) -> None:
    row = {"claim": "C3a", **dict(zip(claims.SOURCES, map(Verdict, words), strict=True))}
    stands = ledger.standing(pd.DataFrame([row]))
    assert stands[name] == ["C3a"] and sum(map(len, stands.values())) == 1


def test_the_table_links_to_the_chapters_that_are_there(found: pd.DataFrame, shipped: Results) -> None:
    text = ledger.markdown(found)
    assert len(text.splitlines()) == 2 + len(claims.CLAIMS)
    for number, chapter in chapters().items():
        assert (number in set(found["chapter"])) == (f"]({chapter.stem}.ipynb)" in text)
    assert "C15" in ledger.details(found.iloc[-1]) and "Refuted if" in ledger.details(found.iloc[0])
    few = ledger.rows_of(shipped, "C9", "C2")
    assert few.startswith("**C9.") and few.count("- *Photographs*:") == 2


def test_differences_are_of_claims_with_two_effects(found: pd.DataFrame) -> None:
    table = ledger.differences(found)
    assert {"C1a", "C2", "C3b"} <= set(table["claim"]) and "C15" not in set(table["claim"])
    assert set(table["ours"]) == {"photographs", "laptop"}
    assert table[(table["claim"] == "C3b") & (table["ours"] == "laptop")]["effects"].item() == "other sides"


def test_the_figure_has_a_mark_for_each_claim_and_source(found: pd.DataFrame) -> None:
    figure = ledger_figures.verdicts(found, {claim.number: "x" for claim in claims.CLAIMS}, "a title")
    marks = [line for line in figure.axes[0].get_lines() if line.get_marker() not in (None, "None", "")]
    assert len(marks) == 3 * len(claims.CLAIMS) - 3  # C15 is told
    shapes = {(line.get_marker(), line.get_color()) for line in marks}
    assert len({shape for shape, _ in shapes}) == len(shapes)  # a shape for each word, not only a colour


def test_without_runs_the_ledger_says_not_run(tmp_path) -> None:
    empty = Results(profile("quick"), Records(tmp_path), fresh=True)
    table = claims.ledger(empty, ("C2", "C3r"))
    assert [verdict.verdict for verdict in table["laptop"]] == [NOT_RUN, NOT_RUN]
    assert ledger_figures.verdicts(table, {"C2": "", "C3r": ""}, "t").axes
    assert claims.on_false(claims.get("C2"), empty).verdict == NOT_RUN
