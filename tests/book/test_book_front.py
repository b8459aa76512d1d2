"""The pages say what the shipped records say, and the check that guards it can fail."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from book import computed, front
from book.pages import answer, summary
from book.pages import claims as claim_pages
from book.pages import data as data_pages
from petl_core.utils import UserError
from petl_guide import picks
from petl_guide import runs as select
from petl_guide.facts import Facts
from petl_guide.figures.style import title
from petl_guide.results import SHIPPED
from petl_guide.verdict import CONTRADICTED, UNDECIDED, Control, Verdict


@pytest.fixture(scope="module")
def facts() -> Facts:
    return computed.facts_of(SHIPPED)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    for name in (front.README, front.PICTURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    return tmp_path


def test_the_readme_is_what_the_records_say(repository: Path, facts: Facts) -> None:
    assert front.problems(repository, facts) == []


def test_a_changed_number_and_another_picture_are_found_and_mended(copy: Path, facts: Facts) -> None:
    text = (copy / front.README).read_text("utf-8")
    assert "tuning trials each" in text
    (copy / front.README).write_text(text.replace("tuning trials each", "tuning trial each"), "utf-8")
    Image.new("RGB", (720, 300), "white").save(copy / front.PICTURE)
    assert [problem.partition(":")[0] for problem in front.problems(copy, facts)] == [front.README, front.PICTURE]
    front.write(copy, facts)
    assert front.problems(copy, facts) == []


@pytest.mark.parametrize("broken", ["", "{1}\n{0}", "{0}{0}{1}", "{0}{1}<!-- computed: nonsense: begin -->"])
def test_a_readme_without_its_marks_is_refused_and_nothing_written(broken: str, copy: Path, facts: Facts) -> None:
    begin, end = front.marks("findings")
    text = (copy / front.README).read_text("utf-8")
    before, rest = text.split(begin)
    (copy / front.README).write_text(before + broken.format(begin, end) + rest.split(end)[1], "utf-8")
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="marks"):
        front.write(copy, facts)
    assert files == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_the_figure_of_the_answer_shows_the_tuned_runs(facts: Facts) -> None:
    for kind, runs in answer.runs_of(facts).items():
        found = answer.table(runs)
        lora = runs[runs["method"] == "lora"]
        assert found.loc["lora", "mean"] == pytest.approx(lora["accuracy"].mean())
        assert found.loc["full", "share"] == 100 and found.loc["linear", "share"] == 0
        assert (found["low"] <= found["mean"]).all() and (found["mean"] <= found["high"]).all()
        assert title(picks.recommended(runs, kind).method) in answer.message(facts)
    near, far = (set(runs["task"]) for runs in answer.runs_of(facts).values())
    assert near and far and not near & far


def test_the_answer_follows_the_runs(facts: Facts) -> None:
    """If the best method far from the pre-training becomes the worst, another one is recommended there."""
    far = answer.runs_of(facts)[picks.FAR]
    best = picks.recommended(far, picks.FAR).method
    assert best in select.peft(dict.fromkeys(far["method"]))
    other = far.assign(accuracy=far["accuracy"].where(far["method"] != best, 0.0))
    assert picks.recommended(other, picks.FAR).method != best


def test_near_the_pre_training_the_smallest_of_the_good_ones_is_recommended() -> None:
    rows = [("linear", 0, 60.0), ("bitfit", 10, 67.0), ("lora", 100, 68.5), ("full", 1000, 69.0)]
    runs = pd.DataFrame(
        [
            {**dict.fromkeys(("digest", "variant"), name), "backbone": "mini", "stage": "final", "group": "natural",
             "task": task, "method": name, "seed": seed, "params": params, "accuracy": accuracy, "diverged": False,
             "classes": 4}
            for name, params, accuracy in rows for task in ("a", "b") for seed in (0, 1)
        ]
    )  # fmt: skip
    assert picks.recommended(runs, picks.NEAR).method == "bitfit"
    assert picks.recommended(runs, picks.FAR).method == "lora"
    runs.loc[runs["method"] == "linear", "accuracy"] = 67.0
    assert picks.recommended(runs, picks.NEAR).method == "linear"


def test_pictures_of_other_pixels_are_other_pictures() -> None:
    def png(colour: str, width: int = 8) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (width, 8), colour).save(buffer, format="PNG")
        return buffer.getvalue()

    assert front.same_picture(png("white"), png("white"))
    assert not front.same_picture(png("white"), png("black"))
    assert not front.same_picture(png("white"), png("white", width=9))


def test_every_claim_has_an_entry_with_its_verdicts(facts: Facts) -> None:
    text = claim_pages.index(facts)
    entries = re.split(r"^\(c\d+\w?\)=\n", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(facts.ours)
    for number, entry in zip(facts.ours, entries, strict=True):
        theirs, photographs, ours = (verdicts[number] for verdicts in facts.verdicts.values())
        assert entry.startswith(f"## {number} · ")
        assert f"On the published numbers: {theirs.verdict}\n" in entry
        assert f"On photographs (profile real): {photographs.verdict}\n" in entry
        assert f"On the small suite (profile laptop): {ours.verdict}\n" in entry
        assert ours.size in entry and "*Read on:* [section " in entry


def test_a_verdict_is_told_with_what_was_claimed_and_a_control_that_fails() -> None:
    kept = Control("as_is", 1.0, 2.0, passes=True)
    verdict = Verdict(CONTRADICTED, -1, -2, -0.5, 3, "points", kind="not worse", margin=0.25, controls=(kept,))
    told = claim_pages.evidence(verdict)
    assert told == (
        "-1.00 [-2.00, -0.50] points, 3 tasks (the claim: above -0.25). *Controls that pass:* as\\_is 1 (limit 2)."
    )
    assert claim_pages.evidence(Verdict(UNDECIDED, 1.0, reason="control: one seed")).endswith(
        "*Why:* control: one seed."
    )


def test_claims_by_word_count_every_claim_once(facts: Facts) -> None:
    for verdicts in facts.verdicts.values():
        numbers = [number for its in claim_pages.by_word(verdicts).values() for number in its]
        assert sorted(numbers) == sorted(set(verdicts) - {"C3r", "C15"})
    said = summary.paragraphs(facts)
    assert all(len(line) <= 120 for line in said.splitlines())


def test_every_shipped_final_run_belongs_to_a_part(facts: Facts) -> None:
    records = facts.results.records
    every = [records.get(digest) for digest in records.digests()]
    counted = data_pages.of_parts(every)
    assert set(counted) == {part.name for part in facts.results.profile.parts}
    assert counted["tuned"] == facts.tuned["digest"].nunique()
    assert f"{len(every):,} runs" in data_pages.records(facts)
    with pytest.raises(UserError, match="belongs to no part"):
        data_pages.part_of("an_unknown_variant")


def test_the_published_files_are_all_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "607 rows" in data_pages.published_numbers()  # data/published/README.md says so too
    (tmp_path / "other.csv").write_text("a\n1\n", "utf-8")
    monkeypatch.setattr(data_pages, "PUBLISHED", tmp_path)
    with pytest.raises(UserError, match=r"differ: .*other\.csv"):
        data_pages.published_numbers()


def test_command_line(capsys: pytest.CaptureFixture[str], facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert front.main(["--check"]) == 0
    assert "records" in capsys.readouterr().out
    monkeypatch.setattr(front, "problems", lambda root, facts: ["README.md: something"])
    assert front.main(["--check"]) == 1
    assert "README.md: something" in capsys.readouterr().out
