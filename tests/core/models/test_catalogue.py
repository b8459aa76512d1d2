"""The table of timm's ViTs: what ``list backbones`` shows of it, and that it says what timm's models say."""

from __future__ import annotations

import warnings

import pytest

from petl_core.cli import main
from petl_core.models import catalogue
from petl_make.backbones import row_of, survey

FEW = ("vit_tiny_patch16_224", "vit_small_patch16_dinov3", "deit_tiny_distilled_patch16_224")


def test_the_list_shows_an_example_of_each_kind(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "backbones"]) == 0
    shown = capsys.readouterr().out
    rows = {row.name: row for row in catalogue.rows()}
    assert all(rows[name].taken and name in shown and rows[name].licences in shown for name in catalogue.EXAMPLES)
    kinds = {row.kind for row in rows.values() if row.taken}
    assert {rows[name].kind for name in catalogue.EXAMPLES} == kinds
    assert "dinov3-license" in shown and "mini_clip" in shown


@pytest.mark.parametrize("name", FEW)
def test_a_row_is_what_trying_the_name_gives(name: str) -> None:
    assert row_of(name) in catalogue.rows()


@pytest.mark.exhaustive
def test_all_rows_are_what_trying_the_names_gives() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert tuple(survey()) == catalogue.rows()
