"""The opening of records: what is missing is said, what lacks is run and no more; another table of the same records."""

from __future__ import annotations

from pathlib import Path

import pytest

from petl_core.utils import UserError
from petl_guide.results import open_results


def test_open_results_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'huge'"):
        open_results("huge")
    with pytest.raises(UserError, match="'shipped'"):
        open_results("quick", "old")
    with pytest.raises(UserError, match="smoke"):
        open_results("smoke", "shipped")
    with pytest.raises(UserError, match=r"'tund'.*tuned, default"):
        open_results("quick", "fresh", tmp_path, ["tund"])
    monkeypatch.setattr("petl_guide.notebooks.RESULTS", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"nothing.*'quick'"):
        open_results("quick", "shipped")


@pytest.mark.slow
def test_open_results_runs_what_is_missing_and_no_more(tmp_path: Path) -> None:
    some = open_results("smoke", "fresh", tmp_path, ["default", "published"], workers=1, progress=False)
    assert set(some.table["variant"]) == {"default"}  # what the profile does not have is left out
    found = open_results("smoke", "fresh", tmp_path, workers=1, progress=False)
    assert found.has("tuned")
    assert not found.has("published")
    assert found.note().data.startswith("**This is the smoke profile")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/predictions.npz")}
    again = open_results("smoke", "fresh", tmp_path, workers=1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/predictions.npz")} == times
    assert len(again.table) == len(found.table)


def test_other_tables_of_the_same_records() -> None:
    laptop = open_results("laptop")
    some = laptop.of(laptop.table[laptop.table["variant"] == "tuned"])
    assert some.has("tuned") and not some.has("default") and laptop.has("default")
    assert list(some.table.index) == list(range(len(some.table))) and some.records is laptop.records
    assert laptop.of(laptop.table) == laptop and laptop.on_suite() is laptop and laptop.embedded and not laptop.smoke
