"""tensorflow-datasets where nothing can be downloaded: the message says what to do, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from petl_make.vtab import prepare as vtab_prepare
from petl_make.vtab.tasks import TASKS

pytest.importorskip("tensorflow_datasets", reason="the extra 'data' is not installed: make test-data runs this")


@pytest.mark.parametrize("name", ["svhn", "resisc45"])
def test_without_a_network_it_says_what_to_do(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """conftest.py refuses every connection; RESISC45 has to be downloaded by hand in any case."""
    monkeypatch.setattr("tensorflow_datasets.core.download.downloader.MAX_RETRIES", 0)  # ten take minutes
    assert vtab_prepare.main(["--out", str(tmp_path / "out"), "--data-dir", str(tmp_path), "--task", name]) == 1
    said = capsys.readouterr().err
    assert f"{name}: FAILED  tensorflow-datasets could not get {TASKS[name].tfds}" in said
    hint = "downloaded by hand: put the files into" if name == "resisc45" else "check the network and start again"
    assert hint in said and str(tmp_path) in said
    assert list((tmp_path / "out").iterdir()) == []
