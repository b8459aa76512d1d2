"""The opening of records: it says what is missing, runs what lacks, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from petl_core.utils import UserError
from petl_guide.results import open_results


def test_open_results_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown profile 'huge'"):
        open_results("huge")
    with pytest.raises(UserError, match="'shipped'"):
        open_results("quick", "old")
    with pytest.raises(UserError, match="set RESULTS = 'fresh'"):
        open_results("smoke", "shipped")
    with pytest.raises(UserError, match="unknown part 'tund' of a study; the parts are: tuned, default"):
        open_results("quick", "fresh", tmp_path, ["tund"])
    monkeypatch.setattr("petl_guide.notebooks.RESULTS", tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no records of the profile 'quick'"):
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
