"""``python -m petl_guide``: claims, and the contract tried on a method's file."""

import re

import pytest

from petl_core import methods
from petl_guide import __main__ as guide


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = guide.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", [[], ["claims"], ["check-method"], ["notebooks"]])
def test_help_says_what_can_be_done(capsys, command):
    with pytest.raises(SystemExit) as ended:
        guide.main([*command, "--help"])
    assert ended.value.code == 0 and "usage: python -m petl_guide" in capsys.readouterr().out


def test_claims_of_a_folder_without_records_are_refused(capsys, tmp_path):
    code, _, error = call(capsys, "claims", "--results", str(tmp_path))
    assert code == 2 and str(tmp_path) in error and "records" in error


def test_check_method_tells_a_right_file_from_a_wrong_one(capsys, tmp_path, repository):
    source = (repository / "notebooks" / "ia3.py").read_text(encoding="utf-8")
    mine = tmp_path / "mine.py"
    mine.write_text(source, encoding="utf-8")
    code, text, _ = call(capsys, "check-method", str(mine), "--quick")
    assert code == 0 and text.count("ok  ") == 13 and "ia3: all 13 rules kept" in text
    mine.write_text(source.replace("torch.ones", "torch.randn"), encoding="utf-8")
    code, text, _ = call(capsys, "check-method", str(mine), "--quick")
    assert code == 1 and re.search("BROKEN +start +on the plain backbone: identity_at_start is promised", text)
    assert "ia3" not in methods.names()
    code, _, error = call(capsys, "check-method", str(mine), "--set", "rank=4")
    assert code == 2 and "method 'ia3' has no hyper-parameter 'rank'" in error
    assert call(capsys, "check-method", str(tmp_path / "none.py"))[0] == 2
