"""The commands of petl_make: help that starts with an example, and what there is not."""

from __future__ import annotations

import pytest

from petl_make.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_starts_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split("\n")[1].startswith(f"  python -m petl_make {name}")


def test_a_command_or_an_option_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["build-suite"], ["suite", "--mor"], []):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    assert main(["suite"]) == 2 and "--out FOLDER" in capsys.readouterr().err
