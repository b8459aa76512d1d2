"""The ledger read critically: one scale for all effects, false cases that no check may pass, the published record."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.study.statistics import Interval
from petl_core.utils import UserError
from petl_guide import ledger, published
from petl_guide.chapters import chapters
from petl_guide.claims import false
from petl_guide.claims import table as claims
from petl_guide.figures import ledger as ledger_figures
from petl_guide.results import Results, open_results
from petl_guide.verdict import (
    CONTRADICTED,
    NOT_RUN,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Evidence,
    Verdict,
    judged,
)


@pytest.fixture(scope="module")
def shipped() -> Results:
    return open_results("laptop")


@pytest.fixture(scope="module")
def found(shipped: Results) -> pd.DataFrame:
    return claims.ledger(shipped)


@pytest.mark.parametrize(
    ("effect", "low", "high", "threshold", "below", "expected"),
    [
        (2.0, 1.0, 3.0, 0.0, False, 2.0),
        (-1.0, -1.6, -0.4, -2.0, False, 1.0 / 0.6),  # not worse than two points
        (1.0, 0.5, 5.0, 2.0, True, 0.25),  # below 2: the half towards 2 is the upper one
        (-1.0, -3.0, -0.5, 0.0, False, -2.0),
    ],
)
def test_effects_on_one_scale(effect, low, high, threshold, below, expected):
    verdict = Verdict(UNDECIDED, effect, low, high, threshold=threshold, below=below)
    assert verdict.standardised[0] == pytest.approx(expected)
    assert verdict.standardised[1] <= verdict.standardised[0] <= verdict.standardised[2]


def test_beyond_one_means_that_the_interval_excludes_the_threshold():
    random = np.random.default_rng(0)
    for _ in range(200):
        low, effect, high = np.sort(random.normal(size=3))
        margin = random.normal()
        verdict = judged(Evidence(Interval(effect, low, high, 5), margin=margin))
        place = verdict.standardised[0]
        word = SUPPORTED if place > 1 else CONTRADICTED if place < -1 else UNDECIDED
        assert verdict.verdict == word
    assert all(math.isnan(v) for v in Verdict(NOT_RUN).standardised)


def test_every_verdict_of_the_ledger_agrees_with_its_place_on_the_scale(found: pd.DataFrame):
    placed = 0
    for verdict in [*found["published"], *found["ours"]]:
        place = verdict.standardised[0]
        if math.isfinite(place) and verdict.behaves:
            placed += 1
            word = SUPPORTED if place > 1 else CONTRADICTED if place < -1 else UNDECIDED
            assert verdict.verdict == word, verdict
    assert placed >= 8


def test_no_check_supports_a_claim_that_cannot_be_true(shipped: Results, found: pd.DataFrame):
    table = ledger.false_cases(shipped, dict(zip(found["claim"], found["ours"], strict=True)))
    assert list(table["claim"]) == [f"C{i}" for i in range(1, 11)]
    assert set(table["passes"]) == {"yes"}
    word = table.set_index("claim")["on the false case"]
    assert word["C1"] == CONTRADICTED and word["C2"] == CONTRADICTED
    assert (word[["C6", "C7", "C8"]] != table.set_index("claim")["on our records"][["C6", "C7", "C8"]]).all()


def test_names_drawn_by_lot_rarely_make_a_supported_claim(shipped: Results):
    words = [
        claims.on_false(claims.get(number), shipped, seed).verdict for number in ("C3", "C4") for seed in range(30)
    ]
    assert NOT_RUN not in words and words.count(SUPPORTED) <= 5  # 1.5 are expected of 60


def test_changes_touch_what_they_say_and_nothing_else(shipped: Results):
    table, random = shipped.table, np.random.default_rng(0)
    other = false.exchanged(table, random)
    assert (other["method"] != table["method"]).sum() > 300
    assert other.drop(columns="method").equals(table.drop(columns="method"))
    cell = ["task", "seed", "method"]
    tuned = (table["variant"] == "tuned") & (table["stage"] == "final")
    assert sorted(map(tuple, other.loc[tuned, cell].to_numpy())) == sorted(
        map(tuple, table.loc[tuned, cell].to_numpy())
    )
    assert other[~tuned].equals(table[~tuned])
    switched = false.switched(table, random)
    moved = switched["variant"] != table["variant"]
    assert 0 < moved.sum() < 54 and set(table.loc[moved, "variant"]) == {"drop_path_0", "drop_path_0.1"}
    assert len(shipped.table) == len(table) and shipped.table is table  # the records' own table stays as it was


def test_a_claim_without_a_false_case_is_named(shipped: Results):
    with pytest.raises(UserError, match=r"C15.*C1, C2"):
        claims.on_false(claims.get("C15"), shipped)


def test_the_published_record_s_weak_points():
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


def row(number: str, theirs: str, ours: str) -> dict:
    return {"claim": number, "published": Verdict(theirs, 1, 0, 2), "ours": Verdict(ours, 1, 0, 2), "chapter": "04"}


def test_what_stands_is_read_from_both_sides():
    pairs = {
        "both": (SUPPORTED, SUPPORTED),
        "ours alone": (UNDECIDED, SUPPORTED),
        "published alone": (SUPPORTED, NOT_RUN),
        "contradicted": (SUPPORTED, CONTRADICTED),
        "open": (UNDECIDED, NOT_RUN),
        "not run": (NOT_TESTABLE, NOT_RUN),
        "not testable": (NOT_TESTABLE, NOT_TESTABLE),
    }
    table = pd.DataFrame([row(name, *words) for name, words in pairs.items()])
    assert ledger.standing(table) == {name: [name] for name in pairs}


def test_the_table_links_to_the_chapters_that_are_there(found: pd.DataFrame):
    text = ledger.markdown(found)
    assert len(text.splitlines()) == 2 + len(claims.CLAIMS)
    for number, chapter in chapters().items():
        assert (number in set(found["chapter"])) == (f"]({chapter.stem}.ipynb)" in text)
    assert "C15" in ledger.details(found.iloc[-1]) and "Refuted if" in ledger.details(found.iloc[0])


def test_differences_are_of_claims_with_two_effects(found: pd.DataFrame):
    table = ledger.differences(found)
    assert {"C1", "C2", "C3"} <= set(table["claim"]) and "C15" not in set(table["claim"])
    assert set(table["effects"]) <= {"the same side", "other sides"}
    assert table.set_index("claim").loc["C3", "effects"] == "other sides"


def test_the_figure_has_a_mark_for_each_claim_and_source(found: pd.DataFrame):
    figure = ledger_figures.verdicts(found, {claim.number: "x" for claim in claims.CLAIMS}, "a title")
    left = figure.axes[0]
    marks = [line for line in left.get_lines() if line.get_marker() not in (None, "None", "")]
    assert len(marks) == 2 * len(claims.CLAIMS)
    shapes = {(line.get_marker(), line.get_color()) for line in marks}
    assert len({shape for shape, _ in shapes}) == len(shapes)  # a shape for each word, not only a colour


def test_without_runs_the_ledger_says_not_run(tmp_path):
    empty = Results(profile("quick"), Records(tmp_path), fresh=True)
    table = claims.ledger(empty)
    assert ledger_figures.verdicts(table, {claim.number: "" for claim in claims.CLAIMS}, "t").axes
    real = dict(zip(table["claim"], table["ours"], strict=True))
    assert set(ledger.false_cases(empty, real)["passes"]) == {"–"}
    assert ledger.differences(table).empty
