"""Progress bars: on a terminal and nowhere else; a command with an empty cache writes nothing but its message."""

import io
import sys

import pytest

from petl_core import cli
from petl_core.utils import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown", "expected"), [
    (Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False), (io.StringIO, False, False),
])  # fmt: skip
def test_a_bar_is_shown_on_a_terminal_only(monkeypatch, stream, shown, expected):
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(progress_bar(range(3), "drawing", shown=shown, delay=0, mininterval=0)) == [0, 1, 2]
    assert ("drawing" in sys.stderr.getvalue()) == expected


def test_workers_that_cannot_be_are_refused_before_anything_is_read(monkeypatch, backbone, capsys, tmp_path):
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    study = ["study", "--profile", "smoke", "--results", str(tmp_path / "runs"), "--backbone", backbone]
    assert cli.main([*study, "--workers", "-1"]) == 2
    error = capsys.readouterr().err
    assert "workers is -1" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
